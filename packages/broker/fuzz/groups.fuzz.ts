// Fuzzes what coordinators read from their logs: a command is read as it was written or refused by name, and whatever can be
// read leaves a state that holds what must be true, is written as an image, and read back from it as it was.
import { ProtocolError, SeededRandom } from '@millrace/protocol'
import { decodeGroupCommand, encodeGroupCommand, type GroupCommand } from '#src/groups/group-command.js'
import { GroupsState } from '#src/groups/groups-state.js'
import { GroupWatch, InvariantError, textOf } from '../test/groups/invariants.js'
import { RandomGroups } from '../test/groups/random-groups.js'
import { mutated } from './bytes.js'

export const name = 'groups'

const BOUNDS = { groups: 2, members: 4, topics: 3, partitions: 4 }
const STEPS = 25
/** A command that damage makes enormous is refused by a limit; below them it is slow, and nothing else. */
const MAX_PARTITIONS = 300

function orRefused<T>(act: () => T): T | null {
  try {
    return act()
  } catch (error) {
    if (error instanceof ProtocolError) return null
    throw error
  }
}

function largest(command: GroupCommand): number {
  switch (command.kind) {
    case 'topic':
      return command.partitions
    case 'join':
    case 'reset':
      return Math.max(0, ...command.topics.map(({ partitions }) => partitions))
    case 'image':
      return Math.max(0, ...command.image.topics.map(({ partitions }) => partitions))
    default:
      return 0
  }
}

/** What can be read says the same when it is written again. */
function readAnything(random: SeededRandom, command: GroupCommand): GroupCommand | null {
  const read = orRefused(() => decodeGroupCommand(mutated(random, encodeGroupCommand(command))))
  if (read === null) return null
  if (textOf(decodeGroupCommand(encodeGroupCommand(read))) !== textOf(read)) {
    throw new Error('a command changes when it is written again')
  }
  return read
}

function live(random: SeededRandom): void {
  const lives = new RandomGroups(random, BOUNDS)
  const watch = new GroupWatch(new GroupsState())
  for (let step = 0; step < STEPS; step++) {
    const next = lives.next(watch.state)
    const odd = random.oneIn(4) ? readAnything(random, next) : null
    watch.apply(odd !== null && odd.kind !== 'image' && largest(odd) <= MAX_PARTITIONS ? odd : next, step)
  }
  const images = watch.state.imageCommands()
  const other = new GroupsState()
  for (const image of images) other.apply(decodeGroupCommand(encodeGroupCommand(image)), { appendTimeMs: 0 })
  if (textOf(other.image()) !== textOf(watch.state.image())) throw new Error('an image is not what it was made of')
  damage(random, images)
}

/** An image that was damaged is refused, or is a state that can go on. */
function damage(random: SeededRandom, images: readonly GroupCommand[]): void {
  const state = new GroupsState()
  for (const image of images) {
    const read = readAnything(random, image)
    if (read === null || largest(read) > MAX_PARTITIONS) return
    state.apply(read, { appendTimeMs: 0 })
  }
  const lives = new RandomGroups(random, BOUNDS)
  for (let step = 0; step < STEPS; step++) {
    const next = lives.next(state)
    if (largest(next) <= MAX_PARTITIONS) state.apply(next, { appendTimeMs: step })
    encodeGroupCommand(state.imageCommands()[0]!)
  }
}

/** Tries `iterations` inputs drawn from `seed`. @returns how many. @throws when one shows a bug. */
export async function run({ seed, iterations }: { seed: number; iterations: number }): Promise<number> {
  const random = new SeededRandom(seed)
  for (let tried = 0; tried < iterations; tried++) {
    try {
      live(random)
    } catch (error) {
      if (error instanceof InvariantError) throw new Error(`invariant ${error.message}`, { cause: error })
      throw error
    }
  }
  return iterations
}
