// What a broker tells of itself: what it found when it started, and how it is.

import type { Logger, Volume } from './environment.js'
import type { Identity } from './identity.js'
import type { Node } from './node.js'
import type { ServerContext } from './server/context.js'
import type { Server } from './server/server.js'
import type { LogStore } from './storage/log-store.js'
import { VERSION } from './version.js'

/** What recovery found, for whoever reads the log: damage by its place, since nobody else speaks of it. */
export function reportRecovery({ recovery }: LogStore, log: Logger): void {
  for (const { key, position, reason } of recovery.damaged) {
    log.error({ ...key, position, reason }, 'a log is damaged: what is whole is served, nothing is appended')
  }
  if (recovery.logs === 0) return
  const { logs, replayedBytes, torn, durationMs } = recovery
  log.info({ logs, replayedBytes, torn: torn.length, durationMs: Math.round(durationMs) }, 'logs recovered')
}

/** The answer to the `brokerStatus` operation. */
export function statusOf(
  { node, context, server }: { readonly node: Node; readonly context: ServerContext; readonly server: Server },
  { store, identity, volume }: { readonly store: LogStore; readonly identity: Identity; readonly volume: Volume },
  startedAtMs: number,
): Readonly<Record<string, unknown>> {
  const { environment, topics, shard, frameMemory, metrics } = context
  const { clock, memory, cores } = environment
  const { directory, direct, flushMethod, note } = volume
  const { nodeId, clusterId, starts } = identity
  return {
    nodeId,
    clusterId,
    version: VERSION,
    environment: environment.kind,
    uptimeMs: Math.round(clock.monotonicMs() - startedAtMs),
    starts,
    shards: cores.count,
    isReady: node.isReady,
    isRegistered: node.isRegistered,
    topics: topics.list().length,
    partitions: shard.partitionCount,
    connections: server.connections,
    memory: { budgetBytes: memory.budgetBytes, usedBytes: memory.usedBytes, frameBytes: frameMemory.usedBytes },
    storage: { directory, direct, flushMethod, note, ...store.statistics },
    counters: metrics.snapshot(),
  }
}
