// The links between the brokers of a test: every dial of one to another goes through a proxy that can be cut.
import { type Network, NetworkError } from '../environment.js'
import type { Member } from '../members.js'
import { LinkProxy } from './link-proxy.js'

export class Links {
  private readonly proxies = new Map<string, Promise<LinkProxy>>()
  /** Directions that are cut, as `from>to`. */
  private readonly cuts = new Set<string>()
  private waiting: (() => void)[] = []

  constructor(private readonly members: Member[]) {}

  /** A broker more, before anybody dials it. */
  add(member: Member): void {
    this.members.push(member)
  }

  /** Nothing that `from` sends arrives at `to` any more. */
  async cut(from: number, to: number): Promise<void> {
    this.cuts.add(`${from}>${to}`)
    await this.apply()
  }

  async heal(): Promise<void> {
    this.cuts.clear()
    await this.apply()
    for (const wake of this.waiting.splice(0)) wake()
  }

  async close(): Promise<void> {
    for (const proxy of this.proxies.values()) await (await proxy).close()
  }

  /** The network of one broker. Whom it dials outside of the cluster, it dials directly. */
  networkOf(nodeId: number, inner: Network, isRunning: (nodeId: number) => boolean): Network {
    return {
      listen: (options, accept) => inner.listen(options, accept),
      dial: async (options, open) => {
        const to = this.members.find(({ host, port }) => host === options.host && port === options.port)
        // Where nobody listens, the dial has to be refused, which a proxy in between could not do.
        if (to === undefined || to.nodeId === nodeId) return inner.dial(options, open)
        const timeoutMs = await this.untilWhole(nodeId, to.nodeId, options.timeoutMs)
        if (!isRunning(to.nodeId)) return inner.dial({ ...options, timeoutMs }, open)
        const { port } = await this.proxyOf(nodeId, to)
        return inner.dial({ host: '127.0.0.1', port, timeoutMs }, open)
      },
      datagrams: async (options, receive) => {
        const socket = await inner.datagrams(options, receive)
        return {
          host: socket.host,
          port: socket.port,
          send: (host, port, bytes) => {
            const to = this.members.find((member) => member.host === host && member.port === port)
            if (to === undefined || !this.isCut(nodeId, to.nodeId)) socket.send(host, port, bytes)
          },
          close: () => socket.close(),
        }
      },
    }
  }

  /** A connection takes both directions. @returns what is left of the time. @throws NetworkError TIMED_OUT */
  private async untilWhole(from: number, to: number, timeoutMs: number): Promise<number> {
    const deadlineMs = performance.now() + timeoutMs
    while (this.isCut(from, to) || this.isCut(to, from)) {
      const leftMs = deadlineMs - performance.now()
      if (leftMs <= 0)
        throw new NetworkError('TIMED_OUT', `connecting to node ${to} failed: no answer within ${timeoutMs} ms`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs)
        timer.unref()
        this.waiting.push(() => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
    return Math.max(1, deadlineMs - performance.now())
  }

  private isCut(from: number, to: number): boolean {
    return this.cuts.has(`${from}>${to}`)
  }

  private async proxyOf(from: number, to: Member): Promise<LinkProxy> {
    const key = `${from}>${to.nodeId}`
    let opening = this.proxies.get(key)
    if (opening === undefined) {
      opening = LinkProxy.open(to)
      this.proxies.set(key, opening)
      await this.apply()
    }
    return opening
  }

  private async apply(): Promise<void> {
    for (const [key, opening] of this.proxies) {
      const [from = 0, to = 0] = key.split('>').map(Number)
      const proxy = await opening
      proxy.set({ cutsForward: this.isCut(from, to), cutsBackward: this.isCut(to, from) })
    }
  }
}
