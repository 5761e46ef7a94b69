// Compression: what the topic must allow, what the runtime must have, and what is said where it does not.
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { type MillraceError, topic, utf8 } from '@millrace/client'
import { connectWith, type ZstdCodec } from '@millrace/client/environment'
import { readBatchHeader } from '@millrace/protocol'
import { describe, expect, test } from 'vitest'
import { zstdOf } from '#src/links/node-environment.js'
import { begin, type Setting } from './support/setting.js'

const Zipped = topic('zipped', { key: utf8, value: utf8 })
const TEXT = 'x'.repeat(10_000)

/** Something else in its place: what the client does with it is the same. The real one is met by `npm run runtimes`. */
const STAND_IN: ZstdCodec = {
  compress: (bytes) => new Uint8Array(deflateRawSync(bytes)),
  decompress: (bytes, maxBytes) => new Uint8Array(inflateRawSync(bytes, { maxOutputLength: maxBytes })),
}

function withZstd({ world }: Setting, zstd: ZstdCodec | undefined = STAND_IN): ReturnType<typeof connectWith> {
  const environment = { ...world.environment, codec: { ...world.environment.codec, zstd } }
  return connectWith(environment, { bootstrap: 'broker:7420' })
}

function zipped(): Setting {
  const setting = begin()
  setting.cluster.addTopic('zipped', 1, { codecs: ['none', 'gzip', 'zstd'] })
  return setting
}

describe('zstd', () => {
  test('goes there and back where the runtime has it and the topic allows it', async () => {
    const setting = zipped()
    const { world, cluster } = setting
    const mill = withZstd(setting)
    const producer = mill.producer(Zipped, { codec: 'zstd' })
    await world.result(producer.send('k', TEXT))
    const [batch] = cluster.partition(2, 0).batches
    expect(batch!.bytes.length).toBeLessThan(500)
    expect(readBatchHeader(new DataView(batch!.bytes.buffer, 40), 0).codec).toBe('zstd')
    const loop = mill.consumer().subscribe(Zipped, { from: 'earliest' })[Symbol.asyncIterator]()
    expect((await world.result(loop.next())).value).toMatchObject({ key: 'k', value: TEXT })
  })

  test('a topic that was not made for it refuses, as any codec', async () => {
    const setting = zipped()
    const producer = withZstd(setting).producer('orders', { codec: 'zstd' })
    expect(await setting.world.failure(producer.send(null, null))).toMatchObject({
      code: 'ERR_MILLRACE_CODEC_NOT_ALLOWED',
    })
  })

  test('without it a producer is refused at once, and told what to do', () => {
    const { mill } = zipped()
    const thrown = (): MillraceError => {
      try {
        mill.producer(Zipped, { codec: 'zstd' })
      } catch (error) {
        return error as MillraceError
      }
      throw new Error('it was taken')
    }
    expect(thrown()).toMatchObject({ code: 'ERR_MILLRACE_CODEC_UNAVAILABLE', retriable: false })
    expect(thrown().message).toMatch(/Node 22\.15.*gzip/)
  })

  test('without it a subscription ends with a typed error at the batch, after what came before', async () => {
    const setting = zipped()
    const { world, mill } = setting
    await world.result(mill.producer(Zipped).send('k', 'before'))
    await world.result(withZstd(setting).producer(Zipped, { codec: 'zstd' }).send('k', TEXT))
    const seen: (string | null)[] = []
    const errors: MillraceError[] = []
    mill
      .consumer()
      .subscribe(Zipped, { from: 'earliest' })
      .subscribe({ next: ({ value }) => seen.push(value), error: (error) => errors.push(error) })
    await world.run(50)
    expect(seen).toEqual(['before'])
    expect(errors).toMatchObject([
      { code: 'ERR_MILLRACE_CODEC_UNAVAILABLE', fatal: true, topic: 'zipped', partition: 0, offset: 1 },
    ])
  })

  test('a body that lies about its size is refused within that size', async () => {
    const setting = zipped()
    const lying: ZstdCodec = { ...STAND_IN, compress: () => STAND_IN.compress(new Uint8Array(8_000_000)) }
    const { world } = setting
    await world.result(withZstd(setting, lying).producer(Zipped, { codec: 'zstd' }).send('k', 'y'.repeat(100_000)))
    const loop = withZstd(setting).consumer().subscribe(Zipped, { from: 'earliest' })[Symbol.asyncIterator]()
    expect(await world.failure(loop.next())).toMatchObject({ code: 'ERR_MILLRACE_INVALID_BATCH', fatal: true })
  })

  test('is found where Node has all of it, and not where it has none or half', () => {
    const whole = {
      zstdCompressSync: (bytes: Uint8Array) => deflateRawSync(bytes),
      zstdDecompressSync: (bytes: Uint8Array, options: object) => inflateRawSync(bytes, options),
      constants: { ZSTD_d_windowLogMax: 100 },
    }
    const zstd = zstdOf(whole)!
    const packed = zstd.compress(new Uint8Array(1_000))
    expect(zstd.decompress(packed, 1_000)).toEqual(new Uint8Array(1_000))
    expect(() => zstd.decompress(packed, 999)).toThrow()
    const { zstdDecompressSync, ...half } = whole
    expect(zstdDecompressSync).toBeDefined()
    expect(zstdOf(half)).toBeUndefined()
    expect(zstdOf({ constants: {} })).toBeUndefined()
  })
})
