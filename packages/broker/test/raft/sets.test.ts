// Sets of groups at rest, over real cores: what they have to do, and that bugs planted in them are found.
import { expect, test } from 'vitest'
import { FollowedSet } from '#src/raft/followed-set.js'
import { LedSet } from '#src/raft/led-set.js'
import { RaftCore } from '#src/raft/raft-core.js'
import { type PlantedText, plantInSets } from './planted-bugs.js'
import { SET_CHECKS } from './set-checks.js'

test.each(Object.entries(SET_CHECKS))('%s', (_, check) => {
  check({ coreClass: RaftCore, ledSetClass: LedSet, followedSetClass: FollowedSet })
})

const PLANTED: readonly (PlantedText & { readonly check: keyof typeof SET_CHECKS })[] = [
  {
    name: 'a leader that steps down leaves no set',
    file: 'roles.js',
    find: '    wakeAll(state, leading);\n',
    replace: '',
    check: 'a group whose leader has stepped down is vouched for no more',
  },
  {
    name: 'a change is taken onto any epoch',
    file: 'followed-set.js',
    find: 'const isNext = heartbeat.base === this.#epoch && this.#epoch !== 0',
    replace: 'const isNext = this.#epoch !== 0',
    check: 'a change of a set that is not the one here is not taken',
  },
  {
    name: 'a late answer counts for the set of now',
    file: 'led-set.js',
    find: '(epoch !== 0 && epoch < this.#firstEpoch)',
    replace: 'epoch < 0',
    check: 'an answer to a set that is none any more says nothing of the one that followed it',
  },
  {
    name: 'a leader vouches with a dead disk',
    file: 'led-set.js',
    find: 'if (!vouches)',
    replace: 'if (vouches === null)',
    check: 'a disk that completes nothing vouches for nothing, on either side',
  },
  {
    name: 'a follower vouches with a dead disk',
    file: 'followed-set.js',
    find: 'if ((!isNext && heartbeat.base !== 0) || !vouches)',
    replace: 'if (!isNext && heartbeat.base !== 0)',
    check: 'a disk that completes nothing vouches for nothing, on either side',
  },
  {
    name: 'silence of a follower ends nothing',
    file: 'led-set.js',
    find: '++this.#silentTicks > this.limits.electionMinTicks',
    replace: '++this.#silentTicks < 0',
    check: 'a leader that nobody hears is replaced as soon as without sets',
  },
  {
    name: 'silence of a leader ends nothing',
    file: 'followed-set.js',
    find: '++this.#silentTicks >= this.limits.electionMinTicks',
    replace: '++this.#silentTicks < 0',
    check: 'a leader that nobody hears is replaced as soon as without sets',
  },
  {
    name: 'a group that leaves is not named',
    file: 'led-set.js',
    find: 'if (member.epoch > 0)',
    replace: 'if (member.epoch < 0)',
    check: 'a group whose leader has stepped down is vouched for no more',
  },
]

test.each(PLANTED)('found: $name', async (bug) => {
  const classes = await plantInSets(bug)
  expect(() => SET_CHECKS[bug.check]!(classes)).toThrow()
})
