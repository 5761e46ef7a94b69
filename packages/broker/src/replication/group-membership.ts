// Who belongs to a group, as one of its replicas knows it, and how its leader changes that.
import { isSoleVoter, membersOf } from '../raft/configuration.js'
import type { ConfigurationRefusal, Membership } from '../raft/membership.js'
import type { RaftCore } from '../raft/raft-core.js'
import type { Configuration, Entry, NodeId } from '../raft/raft-types.js'

/** 'noRoom': the log takes nothing now. */
export type MembershipRefusal = ConfigurationRefusal | 'noRoom'

interface ConfigurationWriter {
  /** @returns false while there is no room. @throws StorageError. */
  configure(configuration: Configuration): boolean
}

export class GroupMembership {
  constructor(
    private readonly group: { readonly core: RaftCore<Entry> },
    private readonly nodeId: NodeId,
    private readonly batches: ConfigurationWriter,
  ) {}

  /** Whether this replica belongs to the group as far as its own log says, or nothing has been heard of that yet. */
  get isMember(): boolean {
    const members = membersOf(this.group.core.configuration)
    return members.length === 0 || members.includes(this.nodeId)
  }

  /** Whether this node decides alone, and can know that it does. */
  get isSole(): boolean {
    const { configuration, isRepairing } = this.group.core
    return isSoleVoter(configuration, this.nodeId) && !isRepairing
  }

  /** Whether it leads and there is nobody else, not even one who only listens. */
  get isByItself(): boolean {
    const { role, configuration } = this.group.core
    return role === 'leader' && configuration.learners.length === 0 && this.isSole
  }

  /** Whether it is certain here that the group does without a node: this one leads, and has committed that. */
  doesWithout(nodeId: NodeId): boolean {
    const { configuration, isConfigurationCommitted, isServing } = this.group.core
    return isServing && isConfigurationCommitted && !membersOf(configuration).includes(nodeId)
  }

  change(target: Membership): MembershipRefusal | null {
    const configuration = this.group.core.proposeConfiguration(target)
    if (typeof configuration === 'string') return configuration
    return this.batches.configure(configuration) ? null : 'noRoom'
  }
}
