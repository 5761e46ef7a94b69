// Reads on which it depends what is taken for damage: an error that passes is none. What is taken for damage is gone for good,
// and a replica that may have lost something needs all others before it counts again.
import { type Block, type Clock, DiskError, type DiskFile } from '../environment.js'
import { READ_RETRY_PAUSES_MS } from '../limits.js'

export class PatientReads {
  /** @param retries of all reads together, so that a disk that is broken does not hold up the start. */
  constructor(
    private readonly clock: Clock,
    private retries: number,
  ) {}

  /** @throws DiskError INPUT_OUTPUT when the disk refuses again and again. */
  async read(file: DiskFile, position: number, block: Block, length: number): Promise<number> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await file.read(position, block, 0, length)
      } catch (cause) {
        const pauseMs = READ_RETRY_PAUSES_MS[attempt]
        const mayPass = cause instanceof DiskError && cause.code === 'INPUT_OUTPUT'
        if (!mayPass || pauseMs === undefined || this.retries === 0) throw cause
        this.retries--
        await new Promise<void>((resolve) => this.clock.timer(pauseMs, resolve))
      }
    }
  }
}
