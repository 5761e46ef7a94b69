// Whose data a broker expects to find, and what becomes of an empty directory: a new cluster, or a new node of one.
import type { Environment } from '../environment.js'
import type { ExpectedIdentity } from '../identity.js'
import { DEFAULT_PORT } from '../limits.js'
import { isLoopback } from '../loopback.js'
import { clusterIdOf, type MemberSettings } from '../members.js'
import { StartError } from '../start-error.js'
import type { Address } from './addresses.js'
import { joinCluster } from './join-cluster.js'

/** As much of a configuration as this takes. */
export interface IdentitySettings extends MemberSettings {
  readonly host: string
  readonly clusterId?: string
  readonly join?: readonly Address[]
  readonly rack?: string
  readonly bootstrap?: boolean
}

/** @throws StartError INVALID_CONFIG */
export function expectedIdentity(environment: Environment, config: IdentitySettings): ExpectedIdentity {
  const { clusterId, nodeId, members } = config
  const join = joinOf(environment, config)
  // A list of members says which cluster it is, and so begins it on the disk of each.
  const bootstrap = config.bootstrap ?? (join === null && (members !== undefined || isLoopback(config.host)))
  return { clusterId, nodeId, bootstrap, join, ...(members && { newClusterId: clusterIdOf(members) }) }
}

/** @throws StartError INVALID_CONFIG */
function joinOf(environment: Environment, config: IdentitySettings): ExpectedIdentity['join'] {
  const { join, clusterId } = config
  if (join === undefined) return null
  const invalid = (detail: string): StartError => new StartError('INVALID_CONFIG', detail)
  if (config.members !== undefined) throw invalid('--join asks a cluster who its members are: leave --members out')
  if (config.bootstrap === true) throw invalid('--bootstrap begins a cluster and --join becomes part of one: choose')
  const place = {
    host: config.advertisedHost ?? config.host,
    port: config.advertisedPort ?? config.port ?? DEFAULT_PORT,
    rack: config.rack ?? null,
    shards: environment.cores.count,
  }
  return (diskId) => {
    if (config.nodeId !== undefined) throw invalid('a cluster gives a broker that joins its id: leave --node-id out')
    if (place.port === 0) throw invalid('others have to know where a broker that joins is reached: give a --port')
    return joinCluster(environment, join, { ...place, diskId }, clusterId)
  }
}
