// Ways to take a network apart. Each cuts paths between brokers, and now and then those of clients with them.
import type { SeededRandom } from './random.js'
import type { SimulatedNetwork } from './simulated-network.js'

export const PARTITION_KINDS = [
  'halves',
  'isolate one',
  'bridge',
  'ring',
  'one-way send',
  'one-way receive',
  'one link',
  'one link one way',
  'clients',
] as const

export type PartitionKind = (typeof PARTITION_KINDS)[number]

export class Partitions {
  /** @param brokers hosts of the brokers there are at the moment. @param clients names of the clients. */
  constructor(
    private readonly network: SimulatedNetwork,
    private readonly brokers: () => readonly string[],
    private readonly clients: () => readonly string[],
  ) {}

  /** What makes sense with so many brokers. */
  kinds(): readonly PartitionKind[] {
    const { length } = this.brokers()
    if (length < 2) return ['clients']
    if (length < 3) return PARTITION_KINDS.filter((kind) => kind !== 'bridge' && kind !== 'ring')
    return PARTITION_KINDS
  }

  cut(kind: PartitionKind, random: SeededRandom): void {
    this.ways[kind](shuffled(this.brokers(), random), random)
  }

  private readonly ways: Readonly<Record<PartitionKind, (brokers: readonly string[], random: SeededRandom) => void>> = {
    halves: (brokers, random) => this.split(brokers, random.integer(1, brokers.length - 1), random),
    'isolate one': (brokers, random) => this.split(brokers, 1, random),
    bridge: (brokers) => this.bridge(brokers),
    ring: (brokers) => this.ring(brokers),
    'one-way send': ([one, ...others]) => {
      for (const other of others) this.network.cut(one!, other)
    },
    'one-way receive': ([one, ...others]) => {
      for (const other of others) this.network.cut(other, one!)
    },
    'one link': ([one, other]) => this.apart(one!, other!),
    'one link one way': ([one, other]) => this.network.cut(one!, other!),
    clients: ([one], random) => this.clientsFrom(one!, random),
  }

  /** The first `count` on one side, the others on the other; each client on one of them. */
  private split(brokers: readonly string[], count: number, random: SeededRandom): void {
    const left = brokers.slice(0, count)
    const right = brokers.slice(count)
    const clients = random.chance(0.4) ? this.clients() : []
    for (const client of clients) (random.chance(0.5) ? left : right).push(client)
    for (const one of left) for (const other of right) this.apart(one, other)
  }

  /** Two halves that do not see each other, and one broker that both see. */
  private bridge([, ...others]: readonly string[]): void {
    const half = Math.floor(others.length / 2)
    for (const one of others.slice(0, half)) for (const other of others.slice(half)) this.apart(one, other)
  }

  /** Everybody sees a majority, and with more than three brokers no two the same one. */
  private ring(brokers: readonly string[]): void {
    const count = brokers.length
    for (let i = 0; i < count; i++) {
      for (let step = Math.floor(count / 2); step <= count / 2; step++) {
        if (count > 3 || i === 0) this.apart(brokers[i]!, brokers[(i + step) % count]!)
      }
    }
  }

  /** Some clients do not get to one broker, or get no answer from it. */
  private clientsFrom(broker: string, random: SeededRandom): void {
    for (const client of this.clients()) {
      if (random.chance(0.5)) continue
      const how = random.pick(['both', 'there', 'back'])
      if (how !== 'back') this.network.cut(client, broker)
      if (how !== 'there') this.network.cut(broker, client)
    }
  }

  private apart(one: string, other: string): void {
    this.network.cut(one, other)
    this.network.cut(other, one)
  }
}

export function shuffled<T>(items: readonly T[], random: SeededRandom): T[] {
  const left = [...items]
  const order: T[] = []
  while (left.length > 0) order.push(...left.splice(random.integer(0, left.length - 1), 1))
  return order
}
