// Which images a crash at one point of a trace may leave: all of them where they are few, samples elsewhere.
import { GROUP_MAGIC } from '#src/storage/group-envelope.js'
import type { SeededRandom } from '../random.js'
import type { Choice, DurableState, Override, Sector, SectorChoice } from './durable-state.js'
import { PAGE_BYTES, SECTOR_BYTES, type VolumeImage, ZERO_PAGE } from './page-image.js'

/** With at most so many free choices every combination is a state. */
export const EXHAUSTIVE_CHOICES = 12
const MOST_COMBINATIONS = 2 ** EXHAUSTIVE_CHOICES
const SAMPLES_PER_POINT = 64
/** Of sectors written again with what they hold, so many are spoilt one at a time. */
const MOST_SPOILT = 8

const ZEROS = ZERO_PAGE.subarray(0, SECTOR_BYTES)

/** What is free at a crash point. Worked out when it is first asked for: most points of long traces are passed by. */
export class CrashPoint {
  private known: readonly Choice[] | null = null
  private again: readonly Sector[] | null = null

  constructor(readonly durable: DurableState) {}

  get choices(): readonly Choice[] {
    this.known ??= this.durable.choices()
    return this.known
  }

  get rewritten(): readonly Sector[] {
    this.again ??= this.durable.rewritten()
    return this.again
  }
}

export type StateRecipe = (point: CrashPoint, random: SeededRandom) => VolumeImage

/** How many contents a choice may take: old, each of the new ones, and with `spoilt` garbage and zeros. */
function contentsOf(choice: Choice, spoilt: boolean): number {
  return choice.kind === 'change' ? 2 : 1 + choice.versions.length + (spoilt ? 2 : 0)
}

function combinations(choices: readonly Choice[], spoilt: boolean): number {
  let count = 1
  for (const choice of choices) count = Math.min(count * contentsOf(choice, spoilt), Number.MAX_SAFE_INTEGER)
  return count
}

function contentOf(choice: Choice, number: number, random: SeededRandom): Uint8Array | boolean {
  if (number === 0) return false
  if (choice.kind === 'change') return true
  if (number <= choice.versions.length) return choice.versions[number - 1]!
  return number === choice.versions.length + 1 ? garbage(random) : ZEROS
}

/**
 * Every state of a point with few choices. Where that is affordable each sector is old, each of the new versions, garbage
 * or zero; else old or new, and one sector at a time garbage or zero. Points with more choices are sampled.
 */
export function allStates(point: CrashPoint): StateRecipe[] {
  const { choices } = point
  if (choices.length > EXHAUSTIVE_CHOICES) return Array.from({ length: SAMPLES_PER_POINT }, () => sampleState)
  const recipes: StateRecipe[] = []
  const everything = combinations(choices, true)
  const versions = combinations(choices, false)
  if (everything <= MOST_COMBINATIONS) addCombinations(recipes, choices, everything, true)
  else if (versions <= MOST_COMBINATIONS) addCombinations(recipes, choices, versions, false)
  else for (let i = 0; i < SAMPLES_PER_POINT; i++) recipes.push(sampleState)
  if (everything > MOST_COMBINATIONS) {
    for (const [at, choice] of choices.entries()) {
      if (choice.kind === 'change') continue
      recipes.push((_, random) => oneSpoilt(point, at, garbage(random)))
      recipes.push(() => oneSpoilt(point, at, ZEROS))
    }
  }
  const spoilt = Math.min(MOST_SPOILT, point.rewritten.length)
  for (let i = 0; i < spoilt; i++) recipes.push(spoilRewritten)
  return recipes
}

function addCombinations(recipes: StateRecipe[], choices: readonly Choice[], count: number, spoilt: boolean): void {
  for (let state = 0; state < count; state++) {
    recipes.push(({ durable }, random) => {
      let rest = state
      const numbers = choices.map((choice) => {
        const contents = contentsOf(choice, spoilt)
        const number = rest % contents
        rest = Math.floor(rest / contents)
        return number
      })
      return durable.build(choices, (choice, i) => contentOf(choice, numbers[i]!, random))
    })
  }
}

function oneSpoilt({ choices, durable }: CrashPoint, at: number, bytes: Uint8Array): VolumeImage {
  return durable.build(choices, (choice, i) => (i === at ? bytes : newest(choice)))
}

/** A sector that was written again with what it held is garbage, everything else arrived. */
function spoilRewritten({ choices, durable, rewritten }: CrashPoint, random: SeededRandom): VolumeImage {
  const sector = random.pick(rewritten)
  return durable.build(choices, newest, [{ ...sector, bytes: garbage(random) }])
}

function newest(choice: Choice): Uint8Array | boolean {
  return choice.kind === 'sector' ? choice.versions.at(-1)! : true
}

function garbage(random: SeededRandom): Uint8Array {
  const bytes = new Uint8Array(SECTOR_BYTES)
  const words = new Uint32Array(bytes.buffer)
  for (let i = 0; i < words.length; i++) words[i] = random.uint32()
  return bytes
}

/** Each choice by itself, with odds drawn once: few or many of the new sectors, some garbage, some zeros. */
export function sampleState(point: CrashPoint, random: SeededRandom): VolumeImage {
  const { choices, durable } = point
  if (choices.length > 0 && random.chance(0.25)) return allButOne(point, random)
  const newer = random.pick([0, 0.1, 0.5, 0.9, 1])
  // Now and then everything that was under way is spoilt, all copies of it at once.
  const garbageShare = random.pick([0, 0, 0, 0, 0.05, 0.05, 0.7])
  const zeroShare = random.pick([0, 0, 0.05])
  const wholeFile = random.chance(0.2)
  const fileIsNew = new Map<string, boolean>()
  const overrides = drawOverrides(point, garbageShare, random)
  return durable.build(
    choices,
    (choice) => {
      if (choice.kind === 'change') return random.chance(newer)
      const draw = random.fraction()
      if (draw < garbageShare) return garbage(random)
      if (draw < garbageShare + zeroShare) return ZEROS
      if (wholeFile) {
        const known = fileIsNew.get(choice.file) ?? random.chance(newer)
        fileIsNew.set(choice.file, known)
        return known ? choice.versions.at(-1)! : false
      }
      return random.chance(newer) ? random.pick(choice.versions) : false
    },
    overrides,
  )
}

/** Rewritten sectors turned to garbage; now and then, old content of the device where nothing was written yet. */
function drawOverrides(point: CrashPoint, garbageShare: number, random: SeededRandom): Override[] {
  const { durable } = point
  const overrides: Override[] = []
  if (garbageShare > 0) {
    for (const sector of point.rewritten) {
      if (random.chance(garbageShare)) overrides.push({ ...sector, bytes: garbage(random) })
    }
  }
  if (random.chance(0.05)) {
    for (const { file, page } of durable.neverWritten()) {
      if (random.chance(0.5)) overrides.push({ file, page, offset: 0, bytes: stalePage(durable, random) })
    }
  }
  return overrides
}

/** What a device may have kept from before: garbage, or a page of another file. */
function stalePage(durable: DurableState, random: SeededRandom): Uint8Array {
  const files = [...durable.image.files.values()]
  if (files.length > 0 && random.chance(0.5)) {
    const { pages } = random.pick(files)
    if (pages.length > 0) return random.pick(pages)
  }
  const bytes = new Uint8Array(PAGE_BYTES)
  for (let at = 0; at < PAGE_BYTES; at += SECTOR_BYTES) bytes.set(garbage(random), at)
  return bytes
}

/** Everything reached the disk but one page: the holes in which a log is cut with whole groups behind them. */
function allButOne({ choices, durable }: CrashPoint, random: SeededRandom): VolumeImage {
  const lost = random.pick(choices)
  return durable.build(choices, (choice) => {
    if (choice === lost) return false
    return lost.kind === 'sector' && isSamePage(choice, lost) ? false : newest(choice)
  })
}

function isSamePage(choice: Choice, sector: SectorChoice): boolean {
  return choice.kind === 'sector' && choice.page === sector.page && choice.file === sector.file
}

/** One sector that a flush made durable rots away. Null when nothing but zeros is durable. */
export function rotSector(image: VolumeImage, durable: DurableState, random: SeededRandom): VolumeImage | null {
  const candidates: { readonly name: string; readonly number: number; readonly page: Uint8Array }[] = []
  for (const [name, { pages }] of durable.image.files) {
    for (const [number, page] of pages.entries()) {
      if (page !== ZERO_PAGE && image.files.get(name)?.page(number) === page) candidates.push({ name, number, page })
    }
  }
  if (candidates.length === 0) return null
  // Where groups begin there is most to lose.
  const groups = candidates.filter(({ page }) => beginsGroup(page))
  const votes = candidates.filter((one) => one.name.startsWith('votes-'))
  const preferred = votes.length > 0 && random.chance(0.4) ? votes : groups
  const { name, number, page } = random.pick(preferred.length > 0 && random.chance(0.7) ? preferred : candidates)
  const rotten = page.slice()
  const offset = random.chance(0.5) ? 0 : random.integer(0, PAGE_BYTES / SECTOR_BYTES - 1) * SECTOR_BYTES
  if (random.chance(0.5)) rotten.set(garbage(random), offset)
  else rotten[offset + random.integer(0, SECTOR_BYTES - 1)]! ^= 1 << random.integer(0, 7)
  image.files.get(name)!.setPage(number, rotten)
  return image
}

function beginsGroup(page: Uint8Array): boolean {
  return new DataView(page.buffer, page.byteOffset, page.byteLength).getUint32(4, true) === GROUP_MAGIC
}
