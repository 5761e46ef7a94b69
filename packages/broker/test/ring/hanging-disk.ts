// A file system that hangs, made of FUSE: its one file opens, and whatever is asked of it afterwards is never answered.
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, read, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const INIT = 26
const LOOKUP = 1
const GETATTR = 3
const OPEN = 14
const ENOSYS = -38
const DIRECTORY_MODE = 0o40755
const FILE_MODE = 0o100644
/** Without it close(2) would ask the file system too, and hang the process that ends. */
const OPEN_WITHOUT_FLUSH = 32

export interface HangingDisk {
  /** A file whose flush never ends. */
  readonly path: string
  /** Ends the file system: everything that waited for it fails. */
  end(): void
}

/** The disk, or why there cannot be one here (no root, no FUSE). */
export function mountHangingDisk(): HangingDisk | { readonly refused: string } {
  let device: number
  try {
    device = openSync('/dev/fuse', 'r+')
  } catch (error) {
    return { refused: String(error) }
  }
  const mountPoint = mkdtempSync(join(tmpdir(), 'millrace-hang-'))
  const options = 'fd=3,rootmode=40000,user_id=0,group_id=0'
  const mounted = spawnSync('mount', ['-i', '-t', 'fuse', '-o', options, 'hang', mountPoint], {
    stdio: ['ignore', 'ignore', 'pipe', device],
    encoding: 'utf8',
  })
  if (mounted.status !== 0) {
    closeSync(device)
    rmSync(mountPoint, { recursive: true })
    return { refused: mounted.stderr ?? String(mounted.error) }
  }
  serve(device)
  return {
    path: join(mountPoint, 'file'),
    end() {
      // The connection ends with its last mount; reading from the device then fails, and `serve` closes it.
      spawnSync('umount', ['-f', '-l', mountPoint])
      rmSync(mountPoint, { recursive: true })
    },
  }
}

/** Answers until the file is open, and then nothing any more. */
function serve(device: number): void {
  const request = Buffer.alloc(256 * 1024)
  const next = () => read(device, request, 0, request.length, null, (error) => (error ? closeSync(device) : answer()))
  function answer(): void {
    const operation = request.readUInt32LE(4)
    const unique = request.readBigUInt64LE(8)
    const node = Number(request.readBigUInt64LE(16))
    const body = bodyOf(operation, node)
    const header = Buffer.alloc(16)
    header.writeUInt32LE(16 + (body?.length ?? 0), 0)
    header.writeInt32LE(body === null ? ENOSYS : 0, 4)
    header.writeBigUInt64LE(unique, 8)
    reply(device, body === null ? header : Buffer.concat([header, body]))
    if (operation !== OPEN) next()
  }
  next()
}

/** The kernel wants no answer to some requests (FORGET), nor to one that was interrupted meanwhile, and says ENOENT. */
function reply(device: number, answer: Buffer): void {
  try {
    writeSync(device, answer)
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'ENOENT') throw error
  }
}

function bodyOf(operation: number, node: number): Buffer | null {
  if (operation === INIT) {
    const body = Buffer.alloc(64)
    body.writeUInt32LE(7, 0)
    body.writeUInt32LE(31, 4)
    body.writeUInt32LE(131_072, 8)
    body.writeUInt32LE(131_072, 20)
    return body
  }
  if (operation === LOOKUP) {
    const body = Buffer.alloc(128)
    body.writeBigUInt64LE(2n, 0)
    body.writeBigUInt64LE(100n, 16)
    body.writeBigUInt64LE(100n, 24)
    writeAttributes(body, 40, 2)
    return body
  }
  if (operation === GETATTR) {
    const body = Buffer.alloc(104)
    body.writeBigUInt64LE(100n, 0)
    writeAttributes(body, 16, node)
    return body
  }
  if (operation === OPEN) {
    const body = Buffer.alloc(16)
    body.writeUInt32LE(OPEN_WITHOUT_FLUSH, 8)
    return body
  }
  return null
}

function writeAttributes(body: Buffer, at: number, node: number): void {
  body.writeBigUInt64LE(BigInt(node), at)
  body.writeBigUInt64LE(1_048_576n, at + 8)
  body.writeUInt32LE(node === 1 ? DIRECTORY_MODE : FILE_MODE, at + 60)
  body.writeUInt32LE(1, at + 64)
  body.writeUInt32LE(4096, at + 80)
}
