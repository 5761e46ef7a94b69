// The end of some runs: a bit turns over on the disk, and somebody has to notice.
import type { ReadFact } from './checker/history.js'
import { flipFlushedBit } from './rot.js'
import type { RunContext } from './run-context.js'
import type { SimulatedClient } from './simulated-client.js'
import { describe, stackOf } from './simulation-result.js'

const DATA_DIRECTORY = '/data'

export class RotTrial {
  private hasRotten = false
  private wasSeen = false
  /** What the last read found, by topic, partition and offset. */
  private readonly kept = new Map<string, ReadFact>()

  constructor(private readonly run: RunContext) {}

  keep(topic: string, partition: number, reads: readonly ReadFact[]): void {
    for (const fact of reads) this.kept.set(placeOf(topic, partition, fact.offset), fact)
  }

  /** The broker says that something on its disk is damaged. What the disk refuses to read is another fault. */
  damageReported(fields: Readonly<Record<string, unknown>>): void {
    const isRefused = /the disk (refuses|reports)/.test(String(fields.reason))
    if (!this.hasRotten && !isRefused) this.run.fail('false-damage', describe(fields))
    this.wasSeen = this.hasRotten
  }

  /** A bit turns over on the disk: it is found, and whoever reads gets what was written or is told that it is damaged. */
  async suffer(): Promise<void> {
    const { run } = this
    const random = run.random.split('rot')
    const node = run.cluster.nodes[0]!
    const directory = node.machine.disk.directory(DATA_DIRECTORY)
    // Topics were made in this order, before anything else was.
    const topicIds = new Set(run.options.topics.map((_, i) => i + 1))
    const flipped = flipFlushedBit(directory, topicIds, random)
    if (flipped === null) return
    this.hasRotten = true
    run.log('a bit turns over on the disk', flipped)
    if (random.chance(0.5)) {
      node.kill()
      node.start()
      await run.until('the broker runs again', () => node.state === 'running')
    }
    const client = run.population.newClient()
    if (run.options.storage.scrubBytesPerSecond > 0 && random.chance(0.6)) {
      const passes = this.scrubPasses
      await run.until('the scrubber has been round', () => this.wasSeen || this.scrubPasses >= passes + 2)
      if (this.wasSeen) run.coverage.count('rot found by the scrubber')
      else if (flipped.isThere()) run.fail('rot-unseen', `two passes, and nobody saw ${describe(flipped)}`)
    }
    for (const topic of run.options.topics) await this.read(client, topic.name)
    let closed = false
    void client.close().then(() => {
      closed = true
    })
    await run.until('the last reader has closed', () => closed)
    await run.until('the broker has let go of the last reader', () => node.broker?.status().connections === 0)
  }

  private get scrubPasses(): number {
    const { storage } = (this.run.cluster.nodes[0]!.broker?.status() ?? {}) as { storage?: { scrubPasses: number } }
    return storage?.scrubPasses ?? 0
  }

  private async read(client: SimulatedClient, topic: string): Promise<void> {
    const { run } = this
    let over = false
    client.mill
      .consumer()
      .subscribe(topic, { from: 'earliest', until: 'end' })
      .subscribe({
        next: ({ partition, offset, key, value, headers, timestamp }) => {
          const fact = run.recorder.readFact(partition, offset, { key, value, headers, timestamp })
          const before = this.kept.get(placeOf(topic, partition, offset))
          if (before?.recordId === fact.recordId && before.digest === fact.digest) return
          run.fail('rot-served', `${topic}/${partition}@${offset} is not what it was before a bit turned over`)
        },
        error: (error: unknown) => {
          over = true
          const { code } = error as { code?: string }
          if (code === 'ERR_MILLRACE_DAMAGED') run.coverage.count('rot met by a reader')
          else run.fail('rot-unseen', `the read of ${topic} failed otherwise: ${stackOf(error)}`)
        },
        complete: () => {
          over = true
        },
      })
    await run.until(`the read of ${topic} after the rot ends`, () => over)
  }
}

function placeOf(topic: string, partition: number, offset: number): string {
  return `${topic}/${partition}@${offset}`
}
