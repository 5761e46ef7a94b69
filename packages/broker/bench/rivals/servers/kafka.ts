// One Kafka broker in KRaft mode, controller and broker in one process, with the JVM settings of its own start script.
import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { KafkaSoftware } from '../software.js'
import { freePorts, startServer } from './server-process.js'
import type { Systems } from './systems.js'

/** As `kafka-server-start` and `kafka-run-class` set them. */
const JVM_OPTIONS = [
  '-Xms1g',
  '-Xmx1g',
  '-server',
  '-XX:+UseG1GC',
  '-XX:MaxGCPauseMillis=20',
  '-XX:InitiatingHeapOccupancyPercent=35',
  '-XX:+ExplicitGCInvokesConcurrent',
  '-Djava.awt.headless=true',
]
/** Any identifier of this form will do for a cluster that lives for one run. */
const CLUSTER_ID = 'MillraceRivalsBench000'

export async function startKafka({ java, classPath }: KafkaSoftware, folder: string): Promise<Systems> {
  mkdirSync(folder, { recursive: true })
  const [port, controllerPort] = (await freePorts(2)) as [number, number]
  const settingsFile = join(folder, 'server.properties')
  writeFileSync(settingsFile, settings(port, controllerPort, join(folder, 'data')))
  const format = ['-cp', classPath, 'kafka.tools.StorageTool', 'format', '-t', CLUSTER_ID, '-c', settingsFile]
  await promisify(execFile)(java, format)
  const words = [...JVM_OPTIONS, '-cp', classPath, 'kafka.Kafka', settingsFile]
  const server = await startServer({ program: java, words, port, logFile: join(folder, 'kafka.log') })
  const address = `127.0.0.1:${port}`
  return { addresses: { buffered: address, flushed: address }, stop: () => server.stop() }
}

/** Defaults, but for what one node needs, and that groups begin and deleted topics end without a wait. */
function settings(port: number, controllerPort: number, dataFolder: string): string {
  const lines = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}`,
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': dataFolder,
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 1,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    'group.initial.rebalance.delay.ms': 0,
    'log.segment.delete.delay.ms': 1000,
    'auto.create.topics.enable': false,
  }
  return Object.entries(lines)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('')
}
