// The brokers of the run: one, or a cluster in which each is a process with a data directory of its own.
import { once } from 'node:events'
import { createServer } from 'node:net'
import { BrokerProcess } from './broker-process.js'

const HOST = '127.0.0.1'

export class Brokers {
  private constructor(private readonly processes: readonly BrokerProcess[]) {}

  /** Resolves when clients may come. @param prefer the environment to run on: auto, ring or portable. */
  static async start(count: number, prefer: string): Promise<Brokers> {
    const brokers = new Brokers(count === 1 ? [new BrokerProcess(prefer)] : await cluster(count, prefer))
    await Promise.all(brokers.processes.map((broker) => broker.start()))
    return brokers
  }

  get count(): number {
    return this.processes.length
  }

  /** For `connect({ bootstrap })`. */
  get bootstrap(): string {
    return this.processes.map(({ address }) => address).join(',')
  }

  /** `ring` or `portable`, and why, in the broker's words. */
  get environment(): string {
    return this.processes[0]!.environment
  }

  get reason(): string | null {
    return this.processes[0]!.reason
  }

  get pids(): string {
    return this.processes.map(({ pid }) => pid).join(', ')
  }

  /** @param nodeId from 1. */
  broker(nodeId: number): BrokerProcess {
    const broker = this.processes[nodeId - 1]
    if (broker === undefined) throw new Error(`there is no node ${nodeId}`)
    return broker
  }

  async stop(): Promise<void> {
    await Promise.all(this.processes.map((broker) => broker.stop()))
  }

  /** CPU seconds of all lives of all brokers so far; null where there is no /proc. */
  get cpuSeconds(): number | null {
    return this.processes.reduce<number | null>(
      (sum, { cpuSeconds }) => (sum === null || cpuSeconds === null ? null : sum + cpuSeconds),
      0,
    )
  }

  /** The most memory any life of any broker so far has held; null where there is no /proc. */
  get peakRssMb(): number | null {
    const peaks = this.processes.map(({ peakRssMb }) => peakRssMb)
    return peaks.includes(null) ? null : Math.max(...peaks.map(Number))
  }

  get bytesOnDisk(): number {
    return this.processes.reduce((sum, { bytesOnDisk }) => sum + bytesOnDisk, 0)
  }
}

/** Each is told of all of them, and so finds the others. */
async function cluster(count: number, prefer: string): Promise<BrokerProcess[]> {
  const ports = await freePorts(count)
  const members = ports.map((port, at) => `${at + 1}=${HOST}:${port}`).join(',')
  return ports.map((port, at) => new BrokerProcess(prefer, port, ['--node-id', `${at + 1}`, '--members', members]))
}

/** Ports that nobody listens on at the moment. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, HOST))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => {
    const address = server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  })
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}
