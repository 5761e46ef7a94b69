// The network between simulated hosts: what a cut, one-way or slow path does to connections, and how clusters fall apart.
import { describe, expect, it } from 'vitest'
import type { Stream } from '#src/environment.js'
import { PARTITION_KINDS, type PartitionKind, Partitions } from '../../sim/partitions.js'
import { SeededRandom } from '../../sim/random.js'
import { Scheduler } from '../../sim/scheduler.js'
import { SimulatedMachine } from '../../sim/simulated-environment.js'
import { SimulatedNetwork } from '../../sim/simulated-network.js'

const CONDITIONS = {
  minLatencyMs: 0.1,
  meanLatencyMs: 0.1,
  shredRate: 0,
  datagramLossRate: 0,
  datagramDuplicateRate: 0,
}
const PORT = 7000

/** What one end of a connection has seen. */
class Ear {
  text = ''
  closed: string | null = null

  readonly handler = {
    onBytes: (chunk: Uint8Array) => {
      this.text += Buffer.from(chunk).toString()
    },
    onFilled: () => {},
    onClosed: (error: Error | null) => {
      this.closed = error?.message ?? 'in order'
    },
  }
}

class World {
  readonly scheduler = new Scheduler()
  readonly random: SeededRandom
  readonly network: SimulatedNetwork

  constructor(seed = 1) {
    this.random = new SeededRandom(`network-faults/${seed}`)
    this.network = new SimulatedNetwork(this.scheduler, CONDITIONS, this.random.split('network'))
  }

  machine(host: string, clockRate = 1): SimulatedMachine {
    return new SimulatedMachine(this.scheduler, this.network, this.random.split(host), {
      ...{ host, clockRate, diskBytes: 1024 * 1024, memoryBytes: 1024 * 1024 },
      onLog: () => {},
      onMisuse: (_, misuse) => {
        throw misuse
      },
      watcher: { onFlush: () => {}, onError: () => {} },
    })
  }

  async pass(ms: number): Promise<void> {
    let over = false
    this.scheduler.schedule(null, ms, 'test', () => {
      over = true
    })
    await this.scheduler.run(() => over, { deadlineMs: Number.POSITIVE_INFINITY, events: 100_000 })
  }
}

/** Host `a` dials host `b`. */
async function connected(seed = 1) {
  const world = new World(seed)
  const [a, b] = [world.machine('a'), world.machine('b')]
  const atA = new Ear()
  const atB = new Ear()
  const streams: { a: Stream | null; b: Stream | null } = { a: null, b: null }
  const [from, to] = [a.start(), b.start()]
  void to.network.listen({ host: 'b', port: PORT }, (stream) => {
    streams.b = stream
    return atB.handler
  })
  await world.pass(5)
  const dial = () =>
    from.network.dial({ host: 'b', port: PORT, timeoutMs: 20_000 }, (stream) => {
      streams.a = stream
      return atA.handler
    })
  await Promise.all([dial(), world.pass(10)])
  const say = (who: 'a' | 'b', text: string) => streams[who]!.write(Buffer.from(text))
  return { world, network: world.network, a, b, atA, atB, say, dial }
}

describe('a path', () => {
  it('that is cut holds back what is sent, and brings it in order once it is whole', async () => {
    const { world, network, atA, atB, say } = await connected()
    say('a', 'one ')
    await world.pass(5)
    network.cut('a', 'b')
    network.cut('b', 'a')
    say('a', 'two ')
    say('b', 'answer')
    await world.pass(200)
    expect([atA.text, atB.text]).toEqual(['', 'one '])
    say('a', 'three')
    network.heal()
    await world.pass(300)
    expect([atA.text, atB.text]).toEqual(['answer', 'one two three'])
    expect([atA.closed, atB.closed]).toEqual([null, null])
  })

  it('that is cut one way carries the other way', async () => {
    const { world, network, atA, atB, say } = await connected()
    network.cut('a', 'b')
    say('a', 'question')
    say('b', 'news')
    await world.pass(200)
    expect([atA.text, atB.text]).toEqual(['news', ''])
  })

  it('that is slow is slow in its direction only', async () => {
    const { world, network, atA, atB, say } = await connected()
    network.path('a', 'b').extraLatencyMs = 500
    say('a', 'late')
    say('b', 'soon')
    await world.pass(100)
    expect([atA.text, atB.text]).toEqual(['soon', ''])
    await world.pass(500)
    expect(atB.text).toBe('late')
  })

  it('that stays cut makes some ends lose patience, and only while it is cut', async () => {
    const closed = { cut: 0, healed: 0 }
    for (let seed = 0; seed < 20; seed++) {
      for (const how of ['cut', 'healed'] as const) {
        const { world, network, atA, atB } = await connected(seed)
        network.cut('a', 'b')
        await world.pass(200)
        if (how === 'healed') network.heal()
        await world.pass(10_000)
        if (atA.closed !== null || atB.closed !== null) closed[how]++
      }
    }
    expect(closed.healed).toBe(0)
    expect(closed.cut).toBeGreaterThan(2)
    expect(closed.cut).toBeLessThan(20)
  })

  it('leaves no connection half open, whenever it is whole again', async () => {
    let lost = 0
    for (let seed = 0; seed < 40; seed++) {
      const { world, network, atA, atB } = await connected(seed)
      network.cut('a', 'b')
      await world.pass(1500)
      network.heal()
      await world.pass(10_000)
      expect(atA.closed === null, `seed ${seed}`).toBe(atB.closed === null)
      if (atA.closed !== null) lost++
    }
    expect(lost).toBeGreaterThan(0)
  })

  it('loses resets while it is cut: who is left behind learns of the death afterwards', async () => {
    const { world, network, a, b, atA, atB } = await connected(3)
    network.cut('b', 'a')
    b.killProcess()
    await world.pass(100)
    expect(atA.closed).toBeNull()
    network.heal()
    await world.pass(100)
    expect(atA.closed).toMatch(/connection reset/)
    expect(atB.closed).toBeNull()
    a.killProcess()
  })

  it('that is cut either way answers no dial, which goes through once it is whole', async () => {
    for (const [from, to] of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      const { world, network, dial } = await connected()
      network.cut(from, to)
      let outcome = 'none'
      dial().then(
        () => {
          outcome = 'open'
        },
        () => {
          outcome = 'refused'
        },
      )
      await world.pass(900)
      expect(outcome).toBe('none')
      network.heal()
      await world.pass(3000)
      expect(outcome).toBe('open')
    }
  })

  it('that stays cut makes a dial run out of time', async () => {
    const { world, network, dial } = await connected()
    network.cut('a', 'b')
    const outcome = dial().then(
      () => 'open',
      (error: { code: string }) => error.code,
    )
    await world.pass(21_000)
    expect(await outcome).toBe('TIMED_OUT')
  })
})

it('a paused process hears of nothing until it goes on, and then of everything', async () => {
  const { world, b, atB, say } = await connected()
  world.scheduler.stall(b.environment!.process, 1000)
  say('a', 'knock')
  await world.pass(900)
  expect(atB.text).toBe('')
  await world.pass(200)
  expect(atB.text).toBe('knock')
  world.scheduler.stall(b.environment!.process, 100_000)
  say('a', ' again')
  await world.pass(10)
  expect(atB.text).toBe('knock')
  world.scheduler.resume(b.environment!.process)
  await world.pass(10)
  expect(atB.text).toBe('knock again')
})

it('clocks run at their own rates, and no timer is early by its own', async () => {
  const world = new World()
  for (const rate of [0.95, 1, 1.037]) {
    const { clock } = world.machine(`rate-${rate}`, rate).start()
    const begunAtMs = clock.monotonicMs()
    let lasted = 0
    clock.timer(1000, () => {
      lasted = clock.monotonicMs() - begunAtMs
    })
    await world.pass(1100)
    expect(lasted).toBeGreaterThanOrEqual(1000)
    expect(lasted).toBeLessThan(1000.1)
    expect((clock.monotonicMs() - begunAtMs) / 1100).toBeCloseTo(rate, 3)
  }
})

describe('a cluster falls apart', () => {
  /** Per broker, how many it reaches and how many reach it. */
  function seen(kind: PartitionKind, brokers: number, seed = 1) {
    const { network, random } = new World(seed)
    const hosts = Array.from({ length: brokers }, (_, i) => `broker-${i + 1}`)
    const clients = ['client-1', 'client-2', 'client-3']
    new Partitions(
      network,
      () => hosts,
      () => clients,
    ).cut(kind, random)
    const ways = (from: string) => hosts.filter((to) => to !== from && !network.path(from, to).isCut).length
    const back = (to: string) => hosts.filter((from) => from !== to && !network.path(from, to).isCut).length
    const clientPaths = network.brokenPaths.filter(
      ({ from, to }) => from.startsWith('client') || to.startsWith('client'),
    )
    return { out: hosts.map(ways).sort(), in: hosts.map(back).sort(), clientPaths: clientPaths.length }
  }

  it.each<[PartitionKind, number, readonly number[], readonly number[]]>([
    ['isolate one', 3, [0, 1, 1], [0, 1, 1]],
    ['isolate one', 5, [0, 3, 3, 3, 3], [0, 3, 3, 3, 3]],
    ['bridge', 3, [1, 1, 2], [1, 1, 2]],
    ['bridge', 5, [2, 2, 2, 2, 4], [2, 2, 2, 2, 4]],
    ['ring', 3, [1, 1, 2], [1, 1, 2]],
    ['ring', 5, [2, 2, 2, 2, 2], [2, 2, 2, 2, 2]],
    ['one-way send', 3, [0, 2, 2], [1, 1, 2]],
    ['one-way receive', 3, [1, 1, 2], [0, 2, 2]],
    ['one link', 3, [1, 1, 2], [1, 1, 2]],
    ['one link one way', 3, [1, 2, 2], [1, 2, 2]],
    ['clients', 3, [2, 2, 2], [2, 2, 2]],
  ])('%s of %i', (kind, brokers, out, back) => {
    expect(seen(kind, brokers)).toMatchObject({ out, in: back })
  })

  it('halves of every size, with clients on one side each or on both', () => {
    const shapes = new Set<string>()
    let withClients = 0
    for (let seed = 0; seed < 30; seed++) {
      const { out, clientPaths } = seen('halves', 5, seed)
      shapes.add(out.join(''))
      if (clientPaths > 0) withClients++
    }
    expect([...shapes].sort()).toEqual(['03333', '11222'])
    expect(withClients).toBeGreaterThan(3)
    expect(withClients).toBeLessThan(27)
  })

  it('with clients cut off from one broker', () => {
    expect(seen('clients', 3).clientPaths).toBeGreaterThan(0)
  })

  it('in the ways that so few brokers can', () => {
    const kinds = (brokers: number) =>
      new Partitions(
        new World().network,
        () => Array.from({ length: brokers }, (_, i) => `broker-${i + 1}`),
        () => [],
      ).kinds()
    expect(kinds(1)).toEqual(['clients'])
    expect(kinds(2)).not.toContain('bridge')
    expect(kinds(3)).toEqual(PARTITION_KINDS)
  })
})
