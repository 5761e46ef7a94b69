// What must hold of consumer groups at every moment, seen from above: one owner for each partition and epoch, and offsets that
// were committed never go back. Coordinators are looked into; members tell what they were told.
import type { BrokerNode } from './broker-node.js'

interface GroupWorld {
  readonly nodes: readonly BrokerNode[]
  fail(invariant: 'two-owners' | 'offset-regress' | 'epoch-regress', message: string): void
}

interface Entry {
  readonly partition: number
  readonly epoch: number
}

export class GroupWatch {
  coordinatorChanges = 0
  private hasFailed = false
  /** By group, partition and epoch. */
  private readonly owners = new Map<string, bigint>()
  /** By group and partition: what a member was told is committed, and what a coordinator in the newest term had. */
  private readonly offsets = new Map<string, number>()
  private readonly epochs = new Map<string, number>()
  /** By partition of the groups' topic. */
  private readonly terms = new Map<number, number>()

  constructor(private readonly world: GroupWorld) {}

  /** A member was told that a partition is its own. */
  assigned(group: string, { partition, epoch }: Entry, memberId: bigint): void {
    const name = `${group}/${partition} under epoch ${epoch}`
    const owner = this.owners.get(name)
    if (owner !== undefined && owner !== memberId) {
      this.fail('two-owners', `${name} was given to ${owner.toString(16)} and to ${memberId.toString(16)}`)
    }
    this.owners.set(name, memberId)
  }

  /** A member was told that an offset is committed. */
  acknowledged(group: string, partition: number, offset: number): void {
    const name = `${group}/${partition}`
    this.offsets.set(name, Math.max(offset, this.offsets.get(name) ?? 0))
  }

  /** After the first failure nothing more is looked at: what follows means nothing. */
  look(): void {
    if (this.hasFailed) return
    for (const { broker, nodeId } of this.world.nodes) {
      for (const { partition, term, state } of broker?.coordination.served() ?? []) {
        const newest = this.terms.get(partition) ?? 0
        if (term < newest) continue
        const groups = state.groups()
        if (term > newest && newest > 0 && groups.length > 0) this.coordinatorChanges++
        this.terms.set(partition, term)
        for (const { group } of groups) this.lookAt(`broker ${nodeId}`, group, state.describe(group)!)
      }
    }
  }

  private fail(...broken: Parameters<GroupWorld['fail']>): void {
    this.hasFailed = true
    this.world.fail(...broken)
  }

  private lookAt(where: string, group: string, description: Description): void {
    for (const { id, partitions } of description.members)
      for (const entry of partitions) this.assigned(group, entry, id)
    if (description.epoch < (this.epochs.get(group) ?? 0)) {
      this.fail('epoch-regress', `${where}: epoch ${description.epoch} of ${group}`)
    }
    this.epochs.set(group, description.epoch)
    const committed = new Map(description.offsets.map(({ partition, offset }) => [partition, offset]))
    for (const [name, known] of this.offsets) {
      if (!name.startsWith(`${group}/`)) continue
      const partition = Number(name.slice(group.length + 1))
      const offset = committed.get(partition) ?? -1
      if (offset < known) this.fail('offset-regress', `${where}: ${name} is at ${offset}, and was at ${known}`)
    }
    for (const [partition, offset] of committed) this.offsets.set(`${group}/${partition}`, offset)
  }
}

interface Description {
  readonly epoch: number
  readonly members: readonly { readonly id: bigint; readonly partitions: readonly Entry[] }[]
  readonly offsets: readonly { readonly partition: number; readonly offset: number }[]
}
