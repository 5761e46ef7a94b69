// A replica as the sets of groups at rest see it: what they ask of its core, and what it tells them.
import type { RaftCore } from '../raft/raft-core.js'
import type { Effect, Entry, NodeId } from '../raft/raft-types.js'
import type { SetGroup } from '../raft/set-types.js'
import type { LogKey } from '../storage/log-store.js'
import type { ReplicaGroupOptions } from './group-options.js'

type RestEffect = Extract<Effect<Entry>, { kind: 'rest' | 'wake' }>

interface RestEvents {
  /** Nothing may be asked of the core now. */
  isAside(): boolean
  /** The core may want something done. */
  run(): void
}

export class GroupRest implements SetGroup {
  #neededTicks = false

  constructor(
    private readonly group: { readonly core: RaftCore<Entry> },
    private readonly options: Pick<ReplicaGroupOptions, 'key' | 'sets' | 'needsTicksChanged'>,
    private readonly events: RestEvents,
  ) {}

  get key(): LogKey {
    return this.options.key
  }

  restWith(leader: NodeId, term: number, index: number): boolean {
    const isResting = !this.events.isAside() && this.group.core.restWith(leader, term, index)
    this.events.run()
    return isResting
  }

  followerRests(follower: NodeId, term: number): void {
    this.group.core.followerRests(follower, term)
    this.events.run()
  }

  wake(peer: NodeId, silentTicks: number): void {
    if (this.events.isAside()) return
    this.group.core.wake(peer, silentTicks)
    this.events.run()
  }

  perform(effect: RestEffect): void {
    const { sets } = this.options
    if (effect.kind === 'rest') sets.offer(this, effect.follower, effect.term, effect.index)
    else sets.woke(this, effect.peer, effect.isLed)
  }

  /** The core of now rests with nobody, or soon there is none. */
  forget(): void {
    this.options.sets.forget(this)
  }

  /** Told after everything that the core was told. */
  noteTicks(needsTicks: boolean): void {
    if (needsTicks === this.#neededTicks) return
    this.#neededTicks = needsTicks
    this.options.needsTicksChanged(needsTicks)
  }
}
