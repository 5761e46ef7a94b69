// Runs seeds of random lives of consumer groups over their state machine alone, and names the invariant that one of them
// breaks. Planted bugs of groups are looked for here, where a run takes milliseconds.
import { SeededRandom } from '@millrace/protocol'
import { decodeGroupCommand, encodeGroupCommand } from '#src/groups/group-command.js'
import { GroupsState } from '#src/groups/groups-state.js'
import { GroupWatch, InvariantError, textOf } from '../test/groups/invariants.js'
import { RandomGroups } from '../test/groups/random-groups.js'
import { searchSeeds } from './seed-search.js'

const STEPS = 120
/** Another coordinator takes over about so often. */
const STEPS_PER_IMAGE = 15

function live(seed: number): void {
  const random = new SeededRandom(seed)
  const bounds = {
    groups: 1 + random.below(2),
    members: 2 + random.below(4),
    topics: 1 + random.below(4),
    partitions: 6,
  }
  const lives = new RandomGroups(random, bounds)
  const watch = new GroupWatch(new GroupsState())
  for (let step = 0; step < STEPS; step++) {
    watch.apply(lives.next(watch.state), step)
    if (random.oneIn(STEPS_PER_IMAGE)) reload(watch)
  }
}

/** Another coordinator is what the image says, and the image what this one is. */
function reload({ state }: GroupWatch): void {
  const other = new GroupsState()
  const before = state.groups()
  for (const command of state.imageCommands().map(encodeGroupCommand).map(decodeGroupCommand)) {
    other.apply(command, { appendTimeMs: 0 })
  }
  const described = (one: GroupsState): string => textOf(before.map(({ group }) => one.describe(group)))
  if (described(other) !== described(state) || textOf(other.image()) !== textOf(state.image())) {
    throw new InvariantError('image-differs', 'a coordinator that begins with the image is another one')
  }
}

/** Anything else may be what a bug trips over first. */
function invariantOf(error: Error): string {
  return error instanceof InvariantError ? error.invariant : 'exception'
}

searchSeeds({ name: 'group-histories', unit: 'histories', seeds: 200, live, invariantOf }, console.log)
