// A cluster of broker processes for benches and fault runs: each can be killed, stopped for a while and started again,
// and the links between them cut and slowed.
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BrokerChild } from '#src/dev/broker-child.js'
import { freePorts } from '#src/io/free-ports.js'
import { clusterIdOf, type Member } from '#src/members.js'
import { LinkProxy } from '#src/testing/link-proxy.js'
import type { Preference } from './broker-under-test.js'

import { SmallDisk } from './small-disk.js'

const HOST = '127.0.0.1'
const STOP_LIMIT_MS = 15_000

export interface ProcessClusterOptions {
  readonly brokers: number
  readonly prefer: Preference
  /** Whether brokers reach each other through proxies, so that links can be cut. Clients then come by them as well. */
  readonly hasProxies: boolean
  /** Whether the last node keeps its data on a small disk of its own, where the machine allows it, to be filled. */
  readonly hasSmallDisk?: boolean
  readonly memory?: string
  readonly flags?: readonly string[]
}

export class ClusterNode {
  private child: BrokerChild | null = null

  constructor(
    readonly member: Member,
    private readonly args: readonly string[],
    private readonly logPath: string,
  ) {}

  get nodeId(): number {
    return this.member.nodeId
  }

  get pid(): number | null {
    return this.child?.pid ?? null
  }

  /** Resolves when it accepts connections. @throws Error when it ends before. */
  async start(): Promise<void> {
    const child = new BrokerChild({
      member: this.member,
      args: this.args,
      variables: process.env,
      onLine: (line) => appendFileSync(this.logPath, `${line}\n`),
    })
    this.child = child
    await child.ready
  }

  /** Resolves when the process is gone. */
  async kill(): Promise<void> {
    const child = this.child
    this.child = null
    child?.kill()
    await child?.ended
  }

  async stop(): Promise<void> {
    const child = this.child
    this.child = null
    await child?.stop(STOP_LIMIT_MS)
  }

  /** SIGSTOP and SIGCONT: a process that is there and does nothing. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    if (this.pid !== null) process.kill(this.pid, signal)
  }
}

export class ProcessCluster {
  readonly bootstrap: readonly string[]

  private constructor(
    readonly nodes: readonly ClusterNode[],
    private readonly proxies: ReadonlyMap<string, LinkProxy>,
    /** That of the last node; null where there is none. */
    readonly smallDisk: SmallDisk | null,
    /** Data and logs of every node. */
    readonly directory: string,
  ) {
    this.bootstrap = nodes.map(({ member: { host, port } }) => `${host}:${port}`)
  }

  static async start(options: ProcessClusterOptions): Promise<ProcessCluster> {
    const { brokers, prefer, memory = '128m', flags = [], hasProxies } = options
    const directory = mkdtempSync(join(tmpdir(), 'millrace-cluster-'))
    const ports = await freePorts(HOST, brokers)
    const members = ports.map((port, i): Member => ({ nodeId: i + 1, host: HOST, port }))
    const proxies = hasProxies ? await openProxies(members) : new Map<string, LinkProxy>()
    const smallDisk = options.hasSmallDisk === true ? SmallDisk.mount(join(directory, 'small-disk')) : null
    const dataOf = (nodeId: number) =>
      smallDisk !== null && nodeId === brokers ? smallDisk.dataDirectory : join(directory, `node-${nodeId}`)
    const nodes = members.map((member) => {
      const seen = members.map(({ nodeId, host, port }) => {
        const proxy = proxies.get(linkName(member.nodeId, nodeId))
        return `${nodeId}=${host}:${proxy?.port ?? port}`
      })
      const own = [`--node-id=${member.nodeId}`, `--members=${seen.join(',')}`, `--data=${dataOf(member.nodeId)}`]
      // The lists differ when there are proxies, and the cluster is one.
      const shared = [`--cluster-id=${clusterIdOf(members)}`, `--environment=${prefer}`, `--memory=${memory}`]
      return new ClusterNode(member, [...own, ...shared, ...flags], join(directory, `node-${member.nodeId}.log`))
    })
    const cluster = new ProcessCluster(nodes, proxies, smallDisk, directory)
    try {
      await Promise.all(nodes.map((node) => node.start()))
    } catch (cause) {
      await cluster.stop({ keepsFiles: true })
      throw new Error(`a broker did not start; its log is in ${directory}`, { cause })
    }
    return cluster
  }

  node(nodeId: number): ClusterNode {
    const node = this.nodes[nodeId - 1]
    if (node === undefined) throw new Error(`there is no node ${nodeId}`)
    return node
  }

  /** The proxy that `from` dials to reach `to`. */
  link(from: number, to: number): LinkProxy {
    const proxy = this.proxies.get(linkName(from, to))
    if (proxy === undefined) throw new Error(`there is no proxy from node ${from} to node ${to}`)
    return proxy
  }

  /** Cuts what `from` sends to `to`, on the connections that either has dialled; or makes it whole again. */
  setCut(from: number, to: number, isCut: boolean): void {
    this.link(from, to).set({ cutsForward: isCut })
    this.link(to, from).set({ cutsBackward: isCut })
  }

  /** Every link whole and fast, every process running. */
  healLinks(): void {
    for (const proxy of this.proxies.values()) proxy.set({ cutsForward: false, cutsBackward: false, latencyMs: 0 })
  }

  async stop({ keepsFiles }: { readonly keepsFiles: boolean } = { keepsFiles: false }): Promise<void> {
    this.healLinks()
    await Promise.all(this.nodes.map((node) => node.stop()))
    for (const proxy of this.proxies.values()) await proxy.close()
    if (!keepsFiles) this.smallDisk?.unmount()
    if (!keepsFiles) rmSync(this.directory, { recursive: true, force: true })
  }
}

const linkName = (from: number, to: number): string => `${from}>${to}`

async function openProxies(members: readonly Member[]): Promise<Map<string, LinkProxy>> {
  const proxies = new Map<string, LinkProxy>()
  for (const from of members) {
    for (const to of members) {
      if (from !== to) proxies.set(linkName(from.nodeId, to.nodeId), await LinkProxy.open(to))
    }
  }
  return proxies
}
