// The service on real sockets and on the simulated network: gossip as brokers run it.
import { afterEach, describe, expect, test } from 'vitest'
import type { Environment } from '#src/environment.js'
import { GossipError } from '#src/gossip/gossip-error.js'
import { GossipService, type GossipStreams } from '#src/gossip/gossip-service.js'
import type { GossipEvent } from '#src/gossip/gossip-types.js'
import type { GossipKey } from '#src/gossip/keyring.js'
import { createConsoleLogger } from '#src/io/console-logger.js'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'
import { goodNetwork } from '../../sim/pipe.js'
import { SeededRandom } from '../../sim/random.js'
import { Scheduler } from '../../sim/scheduler.js'
import { SimulatedMachine } from '../../sim/simulated-environment.js'
import { SimulatedNetwork } from '../../sim/simulated-network.js'
import { recordOf } from './gossip-world.js'
import { CLUSTER, KEY_ONE, KEY_TWO, PING, sealOf } from './seal-checks.js'

interface Member {
  readonly service: GossipService
  readonly events: GossipEvent[]
}

interface Start {
  readonly nodeId: number
  readonly host: string
  readonly port: number
  readonly seed: number
  readonly bootId?: number
  readonly keys?: readonly GossipKey[]
  readonly registry?: ReadonlySet<number>
}

/** Streams without a network: what is exchanged gets to the service that listens at the port. */
class Exchanges implements GossipStreams {
  readonly byPort = new Map<number, GossipService>()
  count = 0

  async exchange(_to: number, { port }: { port: number }, bytes: Uint8Array): Promise<Uint8Array> {
    this.count++
    const service = this.byPort.get(port)
    if (service === undefined) throw new Error('nobody listens there')
    return service.answerExchange(bytes)
  }
}

async function start(environment: Environment, streams: Exchanges, options: Start): Promise<Member> {
  const { nodeId, host, port, seed } = options
  const events: GossipEvent[] = []
  const service = await GossipService.start({
    environment,
    clusterId: CLUSTER,
    nodeId,
    bootId: options.bootId ?? 1,
    record: recordOf(nodeId, { peer: { host, port } }),
    listen: { host, port },
    keys: options.keys ?? [KEY_ONE],
    seeds: [{ host, port: seed }],
    registry: options.registry ?? null,
    streams,
    listener: (event) => events.push(event),
  })
  streams.byPort.set(port, service)
  return { service, events }
}

const stateOf = ({ service }: Member, nodeId: number) => service.member(nodeId)?.state ?? 'unknown'

describe('on real sockets', () => {
  const logger = createConsoleLogger({ level: 'silent', format: 'text' })
  let environment: Environment
  const members: Member[] = []

  afterEach(async () => {
    for (const { service } of members.splice(0)) await service.close()
    await environment.close()
  })

  async function freePort(): Promise<number> {
    const socket = await environment.network.datagrams({ host: '127.0.0.1', port: 0 }, () => {})
    await socket.close()
    return socket.port
  }

  async function until(what: string, holds: () => boolean): Promise<void> {
    for (let waited = 0; waited < 500; waited++) {
      if (holds()) return
      await new Promise<void>((resolve) => environment.clock.timer(20, resolve))
    }
    throw new Error(`never became true: ${what}`)
  }

  test('three nodes find each other, a dead one is found out, one that leaves says so', async () => {
    environment = createPortableEnvironment({ memoryBytes: 1024 * 1024, logger })
    const streams = new Exchanges()
    const ports = [await freePort(), await freePort(), await freePort()]
    for (const [at, port] of ports.entries()) {
      const seed = ports[at === 0 ? 1 : 0]!
      members.push(await start(environment, streams, { nodeId: at + 1, host: '127.0.0.1', port, seed }))
    }
    const [one, two, three] = members as [Member, Member, Member]
    await until('all know all', () =>
      members.every((member) => [1, 2, 3].every((id) => stateOf(member, id) === 'alive')),
    )
    one.service.setMetadata({ position: 4, hash: 1 })
    await until('the others are told to pull', () =>
      [two, three].every(({ events }) => events.some((event) => event.kind === 'pullMetadata' && event.from === 1)),
    )
    await three.service.close()
    await until('it is known dead', () => [one, two].every((member) => stateOf(member, 3) === 'dead'))
    await two.service.leave()
    await until('it has left', () => stateOf(one, 2) === 'left')
    const { datagramsSent, datagramBytesSent, refused } = one.service.statistics
    expect(datagramsSent).toBeGreaterThan(5)
    expect(datagramBytesSent / datagramsSent).toBeLessThanOrEqual(1_400)
    expect(refused).toEqual({})
  })

  test('what is forged, misdirected or from a stranger gets no answer and changes nothing', async () => {
    environment = createPortableEnvironment({ memoryBytes: 1024 * 1024, logger })
    const streams = new Exchanges()
    const port = await freePort()
    const registry = new Set([1, 2])
    members.push(await start(environment, streams, { nodeId: 1, host: '127.0.0.1', port, seed: 1, registry }))
    const { service } = members[0]!
    let answers = 0
    const attacker = await environment.network.datagrams({ host: '127.0.0.1', port: 0 }, () => answers++)
    const throwDatagram = (bytes: Uint8Array): void => attacker.send('127.0.0.1', port, bytes)
    throwDatagram(new Uint8Array(100))
    throwDatagram(sealOf(2, { keys: [KEY_TWO] }).seal.seal(PING, 1, 1))
    throwDatagram(sealOf(2, { clusterId: 'e'.repeat(32) }).seal.seal(PING, 1, 1))
    throwDatagram(sealOf(2).seal.seal(PING, 3, 1))
    throwDatagram(sealOf(3).seal.seal(PING, 1, 1))
    await until('all were looked at', () => service.statistics.datagramsReceived === 5)
    expect(service.statistics.refused).toEqual({ VERSION: 1, UNKNOWN_KEY: 1, FORGED: 1, MISDIRECTED: 1, STRANGER: 1 })
    expect(() => service.answerExchange(new Uint8Array(80))).toThrow(GossipError)
    expect(service.members()).toHaveLength(1)
    const honest = sealOf(2).seal.seal(PING, 1, 1)
    throwDatagram(honest)
    throwDatagram(honest)
    await until('they were looked at', () => service.statistics.refused.REPLAYED === 1)
    await until('the honest one is answered', () => answers > 0)
    expect(answers).toBe(1)
  })
})

describe('on the simulated network', () => {
  const COUNT = 8
  const PORT = 7420

  function world(seed: number) {
    const random = new SeededRandom(`gossip-${seed}`)
    const scheduler = new Scheduler()
    const conditions = { ...goodNetwork(), meanLatencyMs: 2, datagramLossRate: 0.02, datagramDuplicateRate: 0.02 }
    const network = new SimulatedNetwork(scheduler, conditions, random.split('network'))
    const machines = Array.from(
      { length: COUNT },
      (_, at) =>
        new SimulatedMachine(scheduler, network, random.split(`machine-${at}`), {
          host: `broker-${at + 1}`,
          diskBytes: 1024 * 1024,
          memoryBytes: 1024 * 1024,
          onLog: () => {},
          onMisuse: () => {},
          watcher: { onFlush: () => {}, onError: () => {} },
        }),
    )
    const run = async (durationMs: number): Promise<void> => {
      const endMs = scheduler.nowMs + durationMs
      await scheduler.run(() => scheduler.nowMs >= endMs, { deadlineMs: endMs, events: 1e7 })
      scheduler.nowMs = endMs
    }
    return { scheduler, network, machines, run }
  }

  /** Streams without bytes on the way; a cut path carries none. */
  function streamsOf(
    own: string,
    network: SimulatedNetwork,
    byHost: ReadonlyMap<string, GossipService>,
  ): GossipStreams {
    return {
      async exchange(_to, { host }, bytes) {
        const service = byHost.get(host)
        const isCut = network.path(own, host).isCut || network.path(host, own).isCut
        if (service === undefined || isCut) throw new Error('nobody listens there')
        return service.answerExchange(bytes)
      },
    }
  }

  async function cluster(seed: number) {
    const there = world(seed)
    const byHost = new Map<string, GossipService>()
    const members = new Map<number, Member>()
    const begin = async (nodeId: number, bootId: number, keys: readonly GossipKey[] = [KEY_ONE]): Promise<void> => {
      const host = `broker-${nodeId}`
      const environment = there.machines[nodeId - 1]!.start()
      const events: GossipEvent[] = []
      const starting = GossipService.start({
        environment,
        clusterId: CLUSTER,
        nodeId,
        bootId,
        record: recordOf(nodeId, { peer: { host, port: PORT } }),
        listen: { host, port: PORT },
        keys,
        seeds: [1, 2, 3].filter((id) => id !== nodeId).map((id) => ({ host: `broker-${id}`, port: PORT })),
        registry: new Set(Array.from({ length: COUNT }, (_, at) => at + 1)),
        streams: streamsOf(host, there.network, byHost),
        listener: (event) => events.push(event),
      })
      await there.run(1)
      const service = await starting
      members.set(nodeId, { service, events })
      byHost.set(host, service)
    }
    const kill = (nodeId: number): void => {
      there.machines[nodeId - 1]!.killProcess()
      byHost.delete(`broker-${nodeId}`)
      members.delete(nodeId)
    }
    for (let nodeId = 1; nodeId <= COUNT; nodeId++) await begin(nodeId, 1)
    await there.run(5_000)
    const all = (): Member[] => [...members.values()]
    return { ...there, members, all, begin, kill }
  }

  test.each([1, 2])('deaths, restarts and cuts are seen for what they are (seed %i)', async (seed) => {
    const { all, kill, begin, run, network } = await cluster(seed)
    const everybody = Array.from({ length: COUNT }, (_, at) => at + 1)
    expect(all().every((member) => everybody.every((id) => stateOf(member, id) === 'alive'))).toBe(true)
    kill(5)
    await run(5_000)
    expect(all().map((member) => stateOf(member, 5))).toEqual(all().map(() => 'dead'))
    await begin(5, 2)
    await run(3_000)
    expect(all().map((member) => stateOf(member, 5))).toEqual(all().map(() => 'alive'))
    for (const one of [1, 2, 3, 4]) {
      for (const other of [5, 6, 7, 8]) {
        network.cut(`broker-${one}`, `broker-${other}`)
        network.cut(`broker-${other}`, `broker-${one}`)
      }
    }
    await run(20_000)
    expect(all().some((member) => everybody.some((id) => stateOf(member, id) === 'dead'))).toBe(true)
    network.heal()
    await run(20_000)
    expect(all().every((member) => everybody.every((id) => stateOf(member, id) === 'alive'))).toBe(true)
    const worst = all().map(({ service }) => service.statistics)
    expect(worst.some(({ refused }) => (refused.REPLAYED ?? 0) > 0)).toBe(true)
    expect(worst.every(({ refused }) => refused.FORGED === undefined && refused.CORRUPT === undefined)).toBe(true)
    for (const { service } of all()) await service.close()
  })

  test('a quiet node rests between what it has to do, and is not slower for it', async () => {
    const { all, run, kill, members } = await cluster(6)
    await run(30_000)
    const before = all().map(({ service }) => service.statistics)
    await run(20_000)
    for (const [at, { service }] of all().entries()) {
      const { ticks, probes } = service.statistics
      expect(probes - before[at]!.probes).toBeGreaterThanOrEqual(38)
      // Four hundred would be one every 50 ms.
      expect(ticks - before[at]!.ticks).toBeLessThan(160)
    }
    const [first, ...others] = all()
    first!.service.setMetadata({ position: 4, hash: 1 })
    await run(20)
    const toldAtOnce = others.filter(({ events }) => events.some(({ kind }) => kind === 'pullMetadata'))
    expect(toldAtOnce.length).toBeGreaterThanOrEqual(2)
    kill(5)
    members.get(1)!.service.lostContact(5)
    await run(600)
    expect(stateOf(members.get(1)!, 5)).toBe('suspect')
    for (const { service } of all()) await service.close()
  })

  test('keys are changed under way, and a node that missed it is out until it has the new one', async () => {
    const { all, run, members } = await cluster(3)
    const steps = [
      (service: GossipService) => service.keyring.install(KEY_TWO),
      (service: GossipService) => service.keyring.use(KEY_TWO.id),
      (service: GossipService) => service.keyring.remove(KEY_ONE.id),
    ]
    for (const step of steps) {
      for (const { service } of all()) {
        step(service)
        await run(200)
      }
    }
    await run(5_000)
    expect(
      all().every(({ events }) => events.every((event) => event.kind !== 'member' || event.change !== 'dead')),
    ).toBe(true)
    expect(
      all().every(({ service }) => Object.keys(service.statistics.refused).every((code) => code === 'REPLAYED')),
    ).toBe(true)
    const late = members.get(8)!.service
    late.keyring.install(KEY_ONE)
    late.keyring.use(KEY_ONE.id)
    late.keyring.remove(KEY_TWO.id)
    await run(6_000)
    expect(stateOf(members.get(1)!, 8)).toBe('dead')
    expect(late.statistics.refused.UNKNOWN_KEY).toBeGreaterThan(0)
    late.keyring.install(KEY_TWO)
    late.keyring.use(KEY_TWO.id)
    await run(15_000)
    expect(all().every((member) => stateOf(member, 8) === 'alive')).toBe(true)
    for (const { service } of all()) await service.close()
  })

  test('a data directory that was put back speaks under a boot id above all that were', async () => {
    const { all, kill, begin, run, members } = await cluster(4)
    kill(4)
    await begin(4, 9)
    await run(3_000)
    kill(4)
    await begin(4, 3)
    await run(5_000)
    expect(all().map(({ service }) => service.member(4)?.bootId)).toEqual(all().map(() => 10))
    expect(all().map((member) => stateOf(member, 4))).toEqual(all().map(() => 'alive'))
    expect(members.get(4)!.events.some(({ kind }) => kind === 'contested')).toBe(true)
    for (const { service } of all()) await service.close()
  })

  test('a member that is removed from the registry is not heard any more', async () => {
    const { all, run, members } = await cluster(5)
    const left = new Set([1, 2, 3, 4, 5, 6, 7])
    for (const { service } of all()) if (service !== members.get(8)!.service) service.setRegistry(left)
    await run(10_000)
    for (const nodeId of left) {
      expect(stateOf(members.get(nodeId)!, 8)).toBe('unknown')
      expect(members.get(nodeId)!.service.statistics.refused.STRANGER ?? 0).toBeGreaterThan(0)
    }
    for (const { service } of all()) await service.close()
  })
})
