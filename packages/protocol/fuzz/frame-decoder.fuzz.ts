// Fuzzes the frame decoder: streams of frames, damaged or not, must give the same frames and the same end whatever
// chunks they come in, and no other error than a ProtocolError.
import {
  crc32,
  encodeFrame,
  FRAME_HEADER_BYTES,
  FrameDecoder,
  MAX_FRAME_BYTES,
  MAX_FRAME_BYTES_BEFORE_HELLO,
  ProtocolError,
  SeededRandom,
} from '@millrace/protocol'
import { concat, MESSAGE_SAMPLES } from '../test/samples.js'
import { mutate } from './mutate.js'

export const name = 'frame-decoder'

const FRAMES = MESSAGE_SAMPLES.map(({ codec, message, extra, id, timeMs }) =>
  concat([encodeFrame(codec, message, { id, timeMs, extraPayloadBytes: extra.length }), extra]),
)

/**
 * The frames and the end of a stream as text. `lengths` cut it into chunks; the last one takes the rest. With `inPlace`,
 * what of a chunk belongs into the decoder's room is put there.
 */
function decode(stream: Uint8Array, maxFrameBytes: number, lengths: readonly number[], inPlace = false): string {
  const seen: string[] = []
  const decoder = new FrameDecoder(maxFrameBytes, (header, payload) => {
    if (payload.length !== header.length) throw new Error(`${payload.length} bytes for a frame of ${header.length}`)
    seen.push([...Object.values(header), crc32(payload, 0)].join(' '))
  })
  let at = 0
  try {
    for (const length of [...lengths, stream.length]) {
      const chunk = stream.subarray(at, at + length)
      const room = inPlace ? decoder.room : null
      const placed = Math.min(chunk.length, room?.length ?? 0)
      room?.set(chunk.subarray(0, placed))
      if (room !== null) decoder.filled(placed)
      decoder.push(chunk.subarray(placed))
      at = Math.min(stream.length, at + length)
      if (decoder.pendingBytes > FRAME_HEADER_BYTES + maxFrameBytes) throw new Error('more held than one frame')
    }
    seen.push(`${decoder.pendingBytes} bytes are held`)
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    seen.push(error.message)
  }
  return seen.join('\n')
}

export function run({ seed, iterations }: { seed: number; iterations: number }): number {
  const random = new SeededRandom(seed)
  for (let i = 0; i < iterations; i++) {
    const parts = Array.from({ length: 1 + random.below(6) }, () => FRAMES[random.below(FRAMES.length)]!)
    const stream = random.oneIn(8) ? random.bytes(random.below(200)) : mutate(random, concat(parts), FRAMES)
    const maxFrameBytes = [64, MAX_FRAME_BYTES_BEFORE_HELLO, MAX_FRAME_BYTES][random.below(3)]!
    const whole = decode(stream, maxFrameBytes, [])
    const longest = random.oneIn(2) ? 20 : 400
    const lengths = Array.from({ length: random.below(40) }, () => random.below(longest))
    const chunked = decode(stream, maxFrameBytes, lengths, random.oneIn(2))
    if (chunked !== whole) throw new Error(`in chunks of ${lengths}:\n${chunked}\n\nat once:\n${whole}`)
  }
  return iterations
}
