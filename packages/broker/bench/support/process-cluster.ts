// A cluster of broker processes for benches and fault runs: each can be killed, stopped for a while and started again,
// and the links between them cut and slowed. One that is reached by doors grows and shrinks.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePorts } from '#src/io/free-ports.js'
import { clusterIdOf, type Member } from '#src/members.js'
import { BrokerDoor } from './broker-door.js'
import type { Preference } from './broker-under-test.js'
import { ClusterNode } from './cluster-node.js'
import { SmallDisk } from './small-disk.js'

export { ClusterNode } from './cluster-node.js'

const HOST = '127.0.0.1'
const JOIN_ATTEMPTS = 10

export interface ProcessClusterOptions {
  readonly brokers: number
  readonly prefer: Preference
  /**
   * Whether others reach a broker through its door, so that links can be cut: then one begins the cluster, and the others
   * join it. Without, all are given one list of members.
   */
  readonly hasProxies: boolean
  /** Whether the last node keeps its data on a small disk of its own, where the machine allows it, to be filled. */
  readonly hasSmallDisk?: boolean
  readonly memory?: string
  readonly flags?: readonly string[]
  /** Takes each line that a node logs, besides that it is kept in a file. */
  readonly onLine?: (line: string) => void
}

export class ProcessCluster {
  private members: ClusterNode[] = []
  private readonly doors: BrokerDoor[] = []
  /** Also those that have left, or have yet to become nodes. */
  private readonly made: ClusterNode[] = []

  private constructor(
    private readonly options: ProcessClusterOptions,
    /** Null where there is none. */
    readonly smallDisk: SmallDisk | null,
    /** Data and logs of every node. */
    readonly directory: string,
  ) {}

  /** Who belongs to the cluster now, running or not. */
  get nodes(): readonly ClusterNode[] {
    return this.members
  }

  get bootstrap(): readonly string[] {
    return this.members.map(({ address }) => address)
  }

  /** Whose data is on the small disk. */
  get smallDiskOwner(): ClusterNode | null {
    return this.members.find(({ dataDirectory }) => dataDirectory === this.smallDisk?.dataDirectory) ?? null
  }

  static async start(options: ProcessClusterOptions): Promise<ProcessCluster> {
    const directory = mkdtempSync(join(tmpdir(), 'millrace-cluster-'))
    const smallDisk = options.hasSmallDisk === true ? SmallDisk.mount(join(directory, 'small-disk')) : null
    const cluster = new ProcessCluster(options, smallDisk, directory)
    try {
      if (options.hasProxies) await cluster.grow()
      else await cluster.begin()
    } catch (cause) {
      await cluster.stop({ keepsFiles: true })
      throw new Error(`a broker did not start; its log is in ${directory}`, { cause })
    }
    return cluster
  }

  /** @throws Error when it does not belong to the cluster. */
  node(nodeId: number): ClusterNode {
    const node = this.members.find((one) => one.nodeId === nodeId)
    if (node === undefined) throw new Error(`there is no node ${nodeId}`)
    return node
  }

  /** A broker more, which joins through those that there are. Resolves when it is a node and accepts connections. */
  async join(): Promise<ClusterNode> {
    const [port = 0] = await freePorts(HOST, 1)
    const node = await this.make(port, this.members.length === 0 ? ['--bootstrap'] : null)
    for (let attempt = 1; ; attempt++) {
      try {
        await node.start()
        break
      } catch (error) {
        // Whoever could let it in may have been away.
        if (attempt === JOIN_ATTEMPTS) throw error
      }
    }
    this.members.push(node)
    return node
  }

  /** It is no node any more, and its process ends. Its data stays. */
  async dismiss(node: ClusterNode): Promise<void> {
    node.isGone = true
    this.members = this.members.filter((one) => one !== node)
    await node.kill()
    if (node.dataDirectory === this.smallDisk?.dataDirectory) this.smallDisk.free()
  }

  /** Cuts what `from` sends to `to`, on the connections that either has dialled; or makes it whole again. */
  setCut(from: number, to: number, isCut: boolean): void {
    this.doorOf(to)?.linkFrom(from).set({ cutsForward: isCut })
    this.doorOf(from)?.linkFrom(to).set({ cutsBackward: isCut })
  }

  setLatency(from: number, to: number, latencyMs: number): void {
    this.doorOf(to)?.linkFrom(from).set({ latencyMs })
  }

  /** Every link whole and fast. */
  healLinks(): void {
    for (const door of this.doors) door.heal()
  }

  /** Every process ends in order; the files stay. */
  async stopBrokers(): Promise<void> {
    this.healLinks()
    await Promise.all(this.members.map((node) => node.stop()))
  }

  async stop({ keepsFiles }: { readonly keepsFiles: boolean } = { keepsFiles: false }): Promise<void> {
    await this.stopBrokers()
    for (const door of this.doors) await door.close()
    if (!keepsFiles) this.smallDisk?.unmount()
    if (!keepsFiles) rmSync(this.directory, { recursive: true, force: true })
  }

  /** Null for one that has left meanwhile. */
  private doorOf(nodeId: number): BrokerDoor | null {
    return this.members.find((node) => node.nodeId === nodeId)?.door ?? null
  }

  private async grow(): Promise<void> {
    for (let i = 0; i < this.options.brokers; i++) await this.join()
  }

  private async begin(): Promise<void> {
    const ports = await freePorts(HOST, this.options.brokers)
    const members = ports.map((port, i): Member => ({ nodeId: i + 1, host: HOST, port }))
    const list = members.map(({ nodeId, host, port }) => `${nodeId}=${host}:${port}`).join(',')
    for (const { nodeId, port } of members) {
      const args = [`--node-id=${nodeId}`, `--members=${list}`, `--cluster-id=${clusterIdOf(members)}`]
      this.members.push(await this.make(port, args, nodeId))
    }
    await Promise.all(this.members.map((node) => node.start()))
  }

  /** @param joinArgs with which it begins; null for those of one that joins the others. */
  private async make(port: number, joinArgs: readonly string[] | null, nodeId = 0): Promise<ClusterNode> {
    const { prefer, memory = '128m', flags = [], hasProxies, brokers, onLine = () => {} } = this.options
    const number = this.made.length + 1
    const door = hasProxies ? await BrokerDoor.open(port, (at) => this.made.find((node) => node.port === at)) : null
    if (door !== null) this.doors.push(door)
    const takesSmallDisk = this.smallDisk !== null && number >= brokers && this.smallDiskOwner === null
    const place = door === null ? joinArgs! : [`--port=${port}`, `--advertise=${HOST}:${door.port}`]
    const node = new ClusterNode({
      port,
      door,
      nodeId,
      dataDirectory: takesSmallDisk ? this.smallDisk.dataDirectory : join(this.directory, `data-${number}`),
      logPath: join(this.directory, `broker-${number}.log`),
      onLine,
      args: () => [...place, `--environment=${prefer}`, `--memory=${memory}`, ...flags],
      joinArgs: () => (door === null ? [] : (joinArgs ?? [`--join=${this.bootstrap.join(',')}`])),
    })
    this.made.push(node)
    return node
  }
}
