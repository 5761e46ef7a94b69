// The list of replicas under repair on a disk that fails: no mark is taken for durable that is not, and none stays for good.
import { expect, it } from 'vitest'
import { DiskError } from '#src/environment.js'
import { SPACE_RETRY_MS } from '#src/limits.js'
import { REPAIR_FILE, RepairList } from '#src/replication/repair-list.js'
import { TestClock } from '../partition/fixture.js'

const [ONE, TWO, THREE] = [0, 1, 2].map((partition) => ({ topicId: 1, partition, lane: 0 })) as [Key, Key, Key]
type Key = { topicId: number; partition: number; lane: number }

/** A disk with one small file, whose writes end when the test says so, or at once. */
class SmallDisk {
  bytes: Uint8Array | null = null
  fails = false
  isSlow = false
  writes = 0
  private readonly pending: (() => void)[] = []

  readSmall = async (): Promise<Uint8Array | null> => this.bytes

  writeSmall = async (name: string, bytes: Uint8Array): Promise<void> => {
    expect(name).toBe(REPAIR_FILE)
    this.writes++
    if (this.isSlow) await new Promise<void>((resolve) => this.pending.push(resolve))
    if (this.fails) throw new DiskError('INPUT_OUTPUT', 'the disk reports an error')
    this.bytes = bytes
  }

  complete(): void {
    for (const resolve of this.pending.splice(0)) resolve()
  }
}

async function open(disk: SmallDisk) {
  const clock = new TestClock()
  const warnings: string[] = []
  const bugs: unknown[] = []
  const log = { debug() {}, info() {}, warn: (_: object, message: string) => void warnings.push(message), error() {} }
  const list = await RepairList.open(disk, { clock, log, report: (error) => void bugs.push(error) })
  return { list, clock, warnings, bugs }
}

/** Which of the three a node would find on the list if it began now. */
async function afterRestart(disk: SmallDisk): Promise<boolean[]> {
  const { list } = await open(disk)
  return [ONE, TWO, THREE].map((key) => list.has(key))
}

const turns = () => new Promise((resolve) => setImmediate(resolve))

it('a replica whose mark was not written is not under repair for sure before another attempt has written it', async () => {
  const disk = new SmallDisk()
  const { list } = await open(disk)
  disk.fails = true
  await expect(list.add(ONE)).rejects.toThrow(DiskError)
  await expect(list.add(ONE)).rejects.toThrow(DiskError)
  expect(list.has(ONE)).toBe(true)
  expect(await afterRestart(disk)).toEqual([false, false, false])
  disk.fails = false
  await list.add(ONE)
  expect(await afterRestart(disk)).toEqual([true, false, false])
  const { writes } = disk
  await list.add(ONE)
  expect(disk.writes).toBe(writes)
})

it('whoever comes during a write that fails is written by one of its own', async () => {
  const disk = new SmallDisk()
  const { list } = await open(disk)
  disk.isSlow = true
  disk.fails = true
  const first = list.add(ONE)
  const others = Promise.all([list.add(TWO), list.add(THREE)])
  disk.complete()
  await expect(first).rejects.toThrow(DiskError)
  disk.fails = false
  await turns()
  disk.complete()
  await others
  expect(disk.writes).toBe(2)
  expect(await afterRestart(disk)).toEqual([true, true, true])
})

it('a replica that holds everything again leaves the list once the disk takes it, and that is no bug', async () => {
  const disk = new SmallDisk()
  const { list, clock, warnings, bugs } = await open(disk)
  await list.add(ONE)
  await list.add(TWO)
  disk.fails = true
  list.remove(ONE)
  list.remove(TWO)
  for (let i = 0; i < 3; i++) {
    await turns()
    expect(clock.waiting).toBe(1)
    expect(await afterRestart(disk)).toEqual([true, true, false])
    clock.advance(SPACE_RETRY_MS)
  }
  disk.fails = false
  await turns()
  clock.advance(SPACE_RETRY_MS)
  await turns()
  expect(await afterRestart(disk)).toEqual([false, false, false])
  expect(clock.waiting).toBe(0)
  expect(warnings.length).toBeGreaterThan(0)
  expect(bugs).toEqual([])
})

it('a replica that has lost something again before it was taken off stays on the list', async () => {
  const disk = new SmallDisk()
  const { list, clock } = await open(disk)
  await list.add(ONE)
  disk.fails = true
  list.remove(ONE)
  await turns()
  disk.fails = false
  await list.add(ONE)
  clock.advance(SPACE_RETRY_MS)
  await turns()
  expect(await afterRestart(disk)).toEqual([true, false, false])
})

it('a node that stops leaves no attempt behind, and what is no error of a disk is a bug', async () => {
  const disk = new SmallDisk()
  const { list, clock, bugs } = await open(disk)
  await list.add(ONE)
  await list.add(TWO)
  disk.fails = true
  list.remove(ONE)
  await turns()
  expect(clock.waiting).toBe(1)
  list.stop()
  expect(clock.waiting).toBe(0)
  list.remove(TWO)
  await turns()
  expect(clock.waiting).toBe(0)
  expect(bugs).toEqual([])
  const bug = new TypeError('nobody expects this')
  disk.writeSmall = () => Promise.reject(bug)
  const other = await open(disk)
  other.list.remove(ONE)
  await turns()
  expect(other.bugs).toEqual([bug])
})
