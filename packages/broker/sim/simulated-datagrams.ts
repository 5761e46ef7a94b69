// UDP of the simulated network: lost, late, twice there or overtaken, as the network's conditions and its paths have it.
import {
  type DatagramHandler,
  type DatagramSocket,
  type ListenOptions,
  MAX_DATAGRAM_BYTES,
  NetworkError,
} from '#src/environment.js'
import type { NetworkPath } from './network-path.js'
import type { NetworkConditions } from './pipe.js'
import type { SeededRandom } from './random.js'
import type { Scheduler, SimulatedProcess } from './scheduler.js'

const FIRST_EPHEMERAL_PORT = 50_000
/** Datagrams are overwritten after delivery: whoever keeps one instead of copying it sees this. */
const STALE = 0xdd

/** What datagrams share with the connections of the same network. */
interface Surroundings {
  readonly conditions: NetworkConditions
  readonly darkHosts: ReadonlySet<string>
  isHost(host: string): boolean
  path(from: string, to: string): NetworkPath
}

interface Bound {
  readonly process: SimulatedProcess
  readonly receive: DatagramHandler
}

export class SimulatedDatagrams {
  private readonly bound = new Map<string, Bound>()
  private nextPort = FIRST_EPHEMERAL_PORT

  constructor(
    private readonly scheduler: Scheduler,
    private readonly network: Surroundings,
    private readonly random: SeededRandom,
  ) {}

  open(process: SimulatedProcess, { host, port: wanted }: ListenOptions, receive: DatagramHandler) {
    return new Promise<DatagramSocket>((resolve, reject) => {
      this.scheduler.schedule(process, this.random.between(0, 0.1), 'bind', () => {
        const port = wanted === 0 ? this.nextPort++ : wanted
        const address = `${host}:${port}`
        if (!this.network.isHost(host)) {
          reject(new NetworkError('BAD_ADDRESS', `${host} is not an address of this machine`))
          return
        }
        if (this.bound.get(address)?.process.alive) {
          reject(new NetworkError('ADDRESS_IN_USE', `${address} is in use`))
          return
        }
        const own: Bound = { process, receive }
        this.bound.set(address, own)
        resolve({
          host,
          port,
          send: (to, toPort, bytes) => {
            if (bytes.byteLength > MAX_DATAGRAM_BYTES) throw new Error(`a datagram of ${bytes.byteLength} bytes`)
            if (this.bound.get(address) === own) this.send({ host, port }, { host: to, port: toPort }, bytes)
          },
          close: async () => {
            if (this.bound.get(address) === own) this.bound.delete(address)
          },
        })
      })
    })
  }

  private send(from: ListenOptions, to: ListenOptions, bytes: Uint8Array): void {
    const { conditions } = this.network
    const path = this.network.path(from.host, to.host)
    const copies = this.random.chance(conditions.datagramDuplicateRate) ? 2 : 1
    for (let copy = 0; copy < copies; copy++) {
      const latencyMs = conditions.minLatencyMs + this.random.exponential(conditions.meanLatencyMs)
      if (path.isCut || this.random.chance(conditions.datagramLossRate)) continue
      const sent = new Uint8Array(bytes)
      this.scheduler.schedule(null, latencyMs + path.extraLatencyMs, 'datagram', () => this.arrive(from, to, sent))
    }
  }

  private arrive(from: ListenOptions, to: ListenOptions, bytes: Uint8Array): void {
    const address = `${to.host}:${to.port}`
    const bound = this.bound.get(address)
    if (bound === undefined || this.network.darkHosts.has(to.host)) return
    this.scheduler.schedule(bound.process, 0, 'receive', () => {
      if (this.bound.get(address) !== bound) return
      bound.receive(bytes, from)
      bytes.fill(STALE)
    })
  }
}
