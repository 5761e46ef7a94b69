// W14: what an idle broker costs: alone, and with 1,000 connections that say nothing.
import { once } from 'node:events'
import { connect as dial, type Socket } from 'node:net'
import { ANY_CLUSTER, encodeFrame, hello, PROTOCOL_VERSION } from '@millrace/protocol'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { BrokerUnderTest } from './support/broker-under-test.js'
import { wait } from './support/produce-load.js'
import { round } from './support/session.js'

export const name = 'w14'

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 10)
  const broker = await BrokerUnderTest.start(bench.prefer)
  const sockets: Socket[] = []
  try {
    await wait(bench.warmUpSeconds * 2)
    const alone = await measure(broker, bench.seconds)
    const count = options.tiny ? 20 : 1000
    for (let i = 0; i < count; i++) sockets.push(await connectIdle(broker.bootstrap))
    await wait(bench.warmUpSeconds)
    const connected = await measure(broker, bench.seconds)
    return { name, environment: broker.environment, alone, connections: count, connected }
  } finally {
    for (const socket of sockets) socket.destroy()
    await broker.stop()
  }
}

async function measure(broker: BrokerUnderTest, seconds: number): Promise<object> {
  broker.mark()
  await wait(seconds)
  const cpu = broker.cpuSinceMark()
  return { cpuPercent: cpu === null ? null : round((cpu / seconds) * 100), rssMb: round(broker.rssMb() ?? 0, 1) }
}

async function connectIdle(bootstrap: string): Promise<Socket> {
  const [host, port] = bootstrap.split(':')
  const socket = dial({ host: host!, port: Number(port) })
  await once(socket, 'connect')
  socket.write(
    encodeFrame(
      hello,
      {
        minVersion: PROTOCOL_VERSION,
        maxVersion: PROTOCOL_VERSION,
        shard: 0,
        features: 0,
        clusterId: ANY_CLUSTER,
        nodeId: 0,
        clientId: 'idle',
        software: 'bench',
        authentication: new Uint8Array(0),
      },
      { id: 1 },
    ),
  )
  await once(socket, 'data')
  return socket
}
