// One client and one fake cluster in one fake world: where most tests begin.
import { type ConnectOptions, json, type Mill, type MillStatus, topic, utf8 } from '@millrace/client'
import { connectWith } from '@millrace/client/environment'
import { FakeCluster } from './fake-broker.js'
import { FakeWorld } from './fake-world.js'

export interface Order {
  readonly n: number
}

export const Orders = topic('orders', { key: utf8, value: json<Order>() })
export const Texts = topic('orders', { key: utf8, value: utf8 })

export interface Setting {
  readonly world: FakeWorld
  readonly cluster: FakeCluster
  readonly mill: Mill
  readonly statuses: MillStatus[]
  /** Another client of the same cluster. */
  connect(options?: Partial<ConnectOptions>): Mill
}

/** Brokers at broker:7420, broker:7421 …, and the topic `orders`, spread over them. */
export function begin(
  options: Partial<ConnectOptions> & { readonly brokers?: number; readonly partitions?: number } = {},
): Setting {
  const { brokers = 1, partitions = 3, ...connectOptions } = options
  const world = new FakeWorld()
  const cluster = new FakeCluster(world)
  for (let i = 0; i < brokers; i++) cluster.addBroker()
  if (partitions > 0) cluster.addTopic('orders', partitions, {}, (partition) => 1 + (partition % brokers))
  const connect = (more: Partial<ConnectOptions> = {}): Mill =>
    connectWith(world.environment, { bootstrap: 'broker:7420', ...connectOptions, ...more })
  const mill = connect()
  const statuses: MillStatus[] = []
  mill.status$.subscribe((status) => statuses.push(status))
  return { world, cluster, mill, statuses, connect }
}
