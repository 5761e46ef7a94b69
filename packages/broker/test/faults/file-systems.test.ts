// Disk faults of real file systems: a small one that fills up, and an ext4 that makes itself read-only, with the flush
// of the device below it.
import { mkdtempSync, rmSync } from 'node:fs'
import { truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { ENVIRONMENTS } from '../broker/environments.js'
import { type BrokerProcess, eventually, Ledger, startBroker, startRefused } from './broker-process.js'
import { command, outputOf } from './fuse.js'

const LIMIT_MS = 180_000

class MountedFileSystem {
  readonly folder = mkdtempSync(join(tmpdir(), 'millrace-file-system-'))
  readonly directory = join(this.folder, 'mount')
  readonly image = join(this.folder, 'image')
  private broker: BrokerProcess | null = null

  /** @throws what the machine refuses, in words. */
  async run(program: string, ...args: string[]): Promise<void> {
    const refused = await command(program, args)
    if (refused !== null) throw new Error(refused)
  }

  async start(environment: string, ledger: Ledger): Promise<BrokerProcess> {
    this.broker = await startBroker(this.directory, environment)
    await ledger.connectTo(this.broker)
    return this.broker
  }

  async end(): Promise<void> {
    await this.broker?.kill()
    await command('umount', ['-l', this.directory])
    rmSync(this.folder, { recursive: true, force: true })
  }
}

async function mountTmpfs(size: string): Promise<MountedFileSystem> {
  const mounted = new MountedFileSystem()
  onTestFinished(() => mounted.end())
  await mounted.run('mkdir', mounted.directory)
  await mounted.run('mount', '-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'millrace-faults', mounted.directory)
  return mounted
}

async function mountExt4(): Promise<MountedFileSystem> {
  const mounted = new MountedFileSystem()
  onTestFinished(() => mounted.end())
  await mounted.run('mkdir', mounted.directory)
  await writeFile(mounted.image, '')
  await truncate(mounted.image, 256 * 1024 * 1024)
  await mounted.run('mkfs.ext4', '-q', '-F', mounted.image)
  await mounted.run('mount', '-o', 'loop,errors=remount-ro', mounted.image, mounted.directory)
  return mounted
}

/** Why such a file system cannot be had here (no root, no loop devices); null when it can. */
async function refusalOf(mount: (mounted: MountedFileSystem) => Promise<void>): Promise<string | null> {
  const mounted = new MountedFileSystem()
  try {
    await mounted.run('mkdir', mounted.directory)
    await mount(mounted)
    return null
  } catch (error) {
    return String(error)
  } finally {
    await mounted.end()
  }
}

const withoutTmpfs = await refusalOf((mounted) => mounted.run('mount', '-t', 'tmpfs', 'trial', mounted.directory))
const withoutExt4 = await refusalOf(async ({ image, directory, run }) => {
  await writeFile(image, '')
  await truncate(image, 16 * 1024 * 1024)
  await run('mkfs.ext4', '-q', '-F', image)
  await run('mount', '-o', 'loop', image, directory)
})

describe('a small tmpfs', () => {
  if (withoutTmpfs !== null) {
    it(`passes by refusal: ${withoutTmpfs}`, () => expect(withoutTmpfs).toMatch(/\w+/))
    return
  }
  it.each(ENVIRONMENTS)(
    'that fills up refuses what needs space, serves reads, and goes on when it has grown (%s)',
    async (environment) => {
      const mounted = await mountTmpfs('16m')
      const ledger = new Ledger()
      const broker = await mounted.start(environment, ledger)
      await ledger.createTopic()
      const refusals = await ledger.send(900, 20_000, 1_000)
      expect(refusals).toContain('ERR_MILLRACE_DISK_FULL')
      expect(refusals).not.toContain('ERR_MILLRACE_OUT_OF_ORDER_SEQUENCE')
      expect(ledger.acknowledgedCount).toBeGreaterThan(10)
      expect(await ledger.status()).toMatchObject({ failure: null, full: true })
      expect(broker.log()).toMatch(/the disk is full/)
      await ledger.verify()
      await mounted.run('mount', '-o', 'remount,size=400m', mounted.directory)
      await eventually('the broker has seen the space', async () => !(await ledger.status()).full)
      expect(await ledger.send(40, 10_000, 5_000), broker.log()).toEqual([])
      expect(await broker.stop()).toBe(0)
      await mounted.start(environment, ledger)
      await ledger.verify()
    },
    LIMIT_MS,
  )
})

describe('an ext4', () => {
  if (withoutExt4 !== null) {
    it(`passes by refusal: ${withoutExt4}`, () => expect(withoutExt4).toMatch(/\w+/))
    return
  }
  it.each(ENVIRONMENTS)(
    'that has made itself read-only stops writing, serves reads, and loses nothing (%s)',
    async (environment) => {
      const mounted = await mountExt4()
      const ledger = new Ledger()
      const broker = await mounted.start(environment, ledger)
      await ledger.createTopic()
      expect(await ledger.send(60, 10_000)).toEqual([])
      expect((await ledger.status()).flushMethod).toBe(environment === 'ring' ? 'device' : 'files')
      const device = await outputOf('findmnt', ['-n', '-o', 'SOURCE', mounted.directory])
      await writeFile(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, '1')
      expect(new Set(await ledger.send(8, 10_000, 1_500))).toEqual(new Set(['ERR_MILLRACE_STORAGE_FAILED']))
      expect(await ledger.codeOfCreating('another')).toBe('ERR_MILLRACE_STORAGE_FAILED')
      await ledger.verify()
      expect((await ledger.status()).failure).toMatch(/EROFS|read-only/i)
      expect(broker.log()).toMatch(/repair the disk, then start the broker again/)
      await broker.stop()
      const { code, words } = await startRefused(mounted.directory, environment)
      expect([code, words]).toEqual([1, expect.stringMatching(/read-only/i)])
      await mounted.run('umount', mounted.directory)
      // 1: errors were found and corrected, the planted one.
      expect(await command('e2fsck', ['-p', '-f', mounted.image])).toMatch(/^e2fsck ended with 1:/)
      await mounted.run('mount', '-o', 'loop', mounted.image, mounted.directory)
      await mounted.start(environment, ledger)
      await ledger.verify()
      expect(await ledger.send(20, 10_000)).toEqual([])
      await ledger.verify()
    },
    LIMIT_MS,
  )
})
