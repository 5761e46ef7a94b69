// How completed writes become durable on which mount.
import { describe, expect, it } from 'vitest'
import { flushChoiceFor, mountsIn } from '#src/io/ring/flush-probe.js'

const MOUNTS = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
23 22 0:5 / /dev rw,relatime shared:2 - devtmpfs devtmpfs rw,size=100k
36 22 259:1 / /data rw,noatime shared:7 master:3 - xfs /dev/nvme0n1p1 rw,attr2,inode64,logbufs=8
37 22 0:49 / /var/lib/docker rw - overlay overlay rw,lowerdir=/a - b,upperdir=/c
`

describe('mounts', () => {
  it('are read with their device, type and options', () => {
    expect(mountsIn(MOUNTS)).toEqual([
      { device: '254:0', type: 'ext4', options: ['rw', 'relatime', 'rw', 'discard'] },
      { device: '0:5', type: 'devtmpfs', options: ['rw', 'relatime', 'rw', 'size=100k'] },
      { device: '259:1', type: 'xfs', options: ['rw', 'noatime', 'rw', 'attr2', 'inode64', 'logbufs=8'] },
      { device: '0:49', type: 'overlay', options: ['rw', 'rw', 'lowerdir=/a'] },
    ])
    expect(mountsIn('')).toEqual([])
  })
})

describe('the choice', () => {
  const choose = (type: string, options: readonly string[], direct = true) =>
    flushChoiceFor({ device: '1:1', type, options }, direct)

  it('is the device on ext4 and XFS as they come', () => {
    expect(choose('ext4', ['rw', 'relatime'])).toEqual({ method: 'device', note: null })
    expect(choose('ext4', ['rw', 'data=ordered', 'barrier=1'])).toEqual({ method: 'device', note: null })
    expect(choose('xfs', ['rw', 'attr2', 'logbufs=8', 'logbsize=32k'])).toEqual({ method: 'device', note: null })
  })

  it.each([
    ['ext4', 'nobarrier', /without barriers/],
    ['ext4', 'barrier=0', /without barriers/],
    ['ext4', 'data=journal', /through its journal/],
    ['ext4', 'journal_dev=0x801', /journal is on another device/],
    ['ext4', 'journal_path=/dev/sdb1', /journal is on another device/],
    ['xfs', 'logdev=/dev/sdb1', /log is on another device/],
    ['xfs', 'rtdev=/dev/sdb1', /real-time device/],
    ['btrfs', 'rw', /not known to suffice on btrfs/],
    ['ext3', 'rw', /not known to suffice on ext3/],
    ['overlay', 'rw', /not known to suffice on overlay/],
  ])('is syncfs on %s with %s, and says why', (type, option, why) => {
    const choice = choose(type, ['rw', option])
    expect(choice.method).toBe('syncfs')
    expect(choice.note).toMatch(why)
  })

  it.each(['fuse', 'fuse.sshfs', 'fuseblk', '9p', 'nfs4', 'cifs'])('is each file by itself on %s', (type) => {
    expect(choose(type, ['rw'])).toMatchObject({ method: 'files', note: expect.stringContaining('does not reach') })
  })

  it('is syncfs for buffered volumes and unknown mounts', () => {
    expect(choose('ext4', ['rw'], false)).toMatchObject({ method: 'syncfs', note: expect.stringContaining('buffered') })
    expect(flushChoiceFor(null, true)).toMatchObject({ method: 'syncfs', note: expect.stringContaining('not known') })
  })
})
