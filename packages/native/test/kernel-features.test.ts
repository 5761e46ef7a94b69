// Probes: what this machine allows, what other machines would be told, and a real refusal by a seccomp filter.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { loadBinding, type RawKernelFeatures } from '#src/binding.js'
import { fixedBufferFinding, probeKernel, reportOf, ringFinding } from '#src/kernel-features.js'
import { describeNative } from './native-suite.js'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))
const GOOD: RawKernelFeatures = {
  release: '6.1.0',
  lockedMemoryBytes: 8_388_608,
  externalBuffers: true,
  disabledBySysctl: 0,
  checksum: 'pclmul',
  setup: null,
  setupFlags: 0x3000,
  features: 0xffff,
  missingOperations: [],
  bufferRing: 0,
  fixedBuffers: 0,
}

function setupFails(errno: number, more: Partial<RawKernelFeatures> = {}): RawKernelFeatures {
  return { ...GOOD, setup: { call: 'io_uring_setup', errno }, ...more }
}

describe('findings', () => {
  it('are good where everything works', () => {
    expect(ringFinding(GOOD)).toEqual({ available: true })
    expect(fixedBufferFinding(GOOD)).toEqual({ available: true })
  })

  it.each([
    ['no io_uring', setupFails(38), /has no io_uring.*ENOSYS/, /kernel/],
    ['sysctl 2', setupFails(1, { disabledBySysctl: 2 }), /io_uring_disabled is 2/, /sysctl/],
    ['sysctl 1', setupFails(1, { disabledBySysctl: 1 }), /io_uring_disabled is 1/, /io_uring_group/],
    ['seccomp', setupFails(1), /EPERM.*seccomp/, /container/],
    ['seccomp, old kernel', setupFails(1, { disabledBySysctl: null }), /seccomp/, /seccomp/],
    ['locked memory', setupFails(12), /ENOMEM.*RLIMIT_MEMLOCK is 8388608/, /ulimit -l/],
    ['old features', setupFails(95), /too old/, /5\.19/],
    ['anything else', setupFails(24), /EMFILE/, /5\.19/],
    ['no operation', { ...GOOD, missingOperations: ['SENDMSG'] }, /SENDMSG/, /5\.19/],
    ['no buffer rings', { ...GOOD, bufferRing: -22 }, /provided-buffer rings \(EINVAL\)/, /5\.19/],
    ['no external buffers', { ...GOOD, externalBuffers: false }, /ArrayBuffers over native memory/, /Electron/],
  ])('say why a ring is refused: %s', (_, raw, reason, hint) => {
    const finding = ringFinding(raw)
    if (finding.available) throw new Error('a refusal was expected')
    expect(finding.reason).toMatch(reason)
    expect(finding.hint).toMatch(hint)
    expect(fixedBufferFinding(raw)).toEqual(finding)
  })

  it('say why memory cannot be registered', () => {
    expect(fixedBufferFinding({ ...GOOD, fixedBuffers: -12 })).toMatchObject({
      available: false,
      reason: expect.stringContaining('RLIMIT_MEMLOCK is 8388608'),
      hint: expect.stringContaining('ulimit -l'),
    })
    expect(fixedBufferFinding({ ...GOOD, fixedBuffers: -22 })).toMatchObject({ available: false })
  })

  it('pass on why the addon is not there', () => {
    const missing = reportOf({ loaded: false, reason: 'not built', hint: 'build it' })
    expect(missing.ring).toEqual({ available: false, reason: 'not built', hint: 'build it' })
    expect(missing.checksum).toBeNull()
  })
})

describe('loading', () => {
  it('is asked for once and answered alike ever after', () => {
    expect(loadBinding()).toBe(loadBinding())
  })

  it('that fails is an answer, not an exception at import', () => {
    const program = `
      const native = await import('@millrace/native')
      const { ring } = native.probeKernel()
      let thrown = ''
      try { new native.Ring({ entries: 8, completions: 16 }) } catch (error) { thrown = error.message }
      console.log(JSON.stringify({ loaded: native.loadBinding().loaded, ring, thrown }))`
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      cwd: PACKAGE,
      encoding: 'utf8',
      env: { ...process.env, MILLRACE_NATIVE_SANITIZE: 'no-such-variant' },
    })
    expect(status, stderr).toBe(0)
    const answer: unknown = JSON.parse(stdout)
    expect(answer).toMatchObject({
      loaded: false,
      ring: { available: false, reason: expect.stringContaining('not built') },
      thrown: expect.stringContaining('not built'),
    })
  })
})

/** Denies io_uring_setup with EPERM, as container runtimes do, then becomes the command given. */
const SECCOMP = `
import ctypes, os, struct, sys
deny = struct.pack('HBBI', 0x20, 0, 0, 0) + struct.pack('HBBI', 0x15, 0, 1, 425)
deny += struct.pack('HBBI', 0x06, 0, 0, 0x00050001) + struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000)
code = ctypes.create_string_buffer(deny)
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, program, 0, 0) != 0: sys.exit(99)
os.environ['LD_PRELOAD'] = os.environ['PRELOAD_AFTER']
os.execv(sys.argv[1], sys.argv[1:])
`

describeNative('probing', () => {
  it('finds what the rings of this machine need', () => {
    const report = probeKernel()
    expect(report.ring.available).toBe(true)
    expect(report.release).toMatch(/^\d+\.\d+/)
    expect(['vpclmul', 'pclmul', 'table']).toContain(report.checksum)
  })

  it('says so when a seccomp filter refuses rings', () => {
    const program = `
      const { probeKernel } = await import('@millrace/native')
      console.log(JSON.stringify(probeKernel().ring))`
    const args = ['-c', SECCOMP, process.execPath, '--input-type=module', '-e', program]
    const { status, stdout, stderr, error } = spawnSync('python3', args, {
      cwd: PACKAGE,
      encoding: 'utf8',
      // A sanitizer's runtime is for the process that loads the addon, not for Python.
      env: { ...process.env, LD_PRELOAD: '', PRELOAD_AFTER: process.env.LD_PRELOAD ?? '' },
    })
    // Building the addon takes python3, so where there is an addon there is python3, unless it came prebuilt.
    if (error !== undefined) expect(error).toMatchObject({ code: 'ENOENT' })
    else {
      expect(status, stderr).toBe(0)
      expect(JSON.parse(stdout)).toMatchObject({
        available: false,
        reason: expect.stringMatching(/EPERM.*seccomp/),
        hint: expect.stringContaining('io_uring_setup'),
      })
    }
  })
})
