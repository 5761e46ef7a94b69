// Topics of a simulated cluster, made and unmade with the product's own administration, whatever is broken meanwhile.
import type { Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { mustBeMillraceError } from './app-context.js'
import type { TopicOptions } from './options.js'

const RETRY_MS = 30

export interface AdminContext {
  readonly mill: Mill
  readonly sleep: (delayMs: number) => Promise<void>
}

/** Resolves when the topic is there: an answer that got lost is asked for again. */
export async function createTopic(context: AdminContext, topic: TopicOptions): Promise<void> {
  const { name, partitions, durability, retentionBytes = null } = topic
  await persist(context, 'ERR_MILLRACE_TOPIC_EXISTS', () =>
    admin(context.mill).createTopic(name, { partitions, durability, retentionBytes }),
  )
}

/** First offset of each partition. */
export async function logStarts({ mill, sleep }: AdminContext, name: string): Promise<number[]> {
  for (;;) {
    try {
      const { partitions } = await admin(mill).describeTopic(name)
      // A partition without a leader has nobody to tell.
      const starts = partitions.flatMap(({ logStartOffset }) => logStartOffset ?? [])
      if (starts.length === partitions.length) return starts
    } catch (error) {
      mustBeMillraceError(error)
    }
    await sleep(RETRY_MS)
  }
}

/** @returns how often it was asked for. */
export function deleteTopic(context: AdminContext, name: string): Promise<number> {
  return persist(context, 'ERR_MILLRACE_UNKNOWN_TOPIC', () => admin(context.mill).deleteTopic(name))
}

/** Repeats until it has worked, or an earlier attempt turns out to have. @returns the attempts. */
async function persist({ sleep }: AdminContext, done: string, work: () => Promise<unknown>): Promise<number> {
  for (let attempts = 1; ; attempts++) {
    try {
      await work()
      return attempts
    } catch (error) {
      mustBeMillraceError(error)
      if (error.code === done) return attempts
    }
    await sleep(RETRY_MS)
  }
}
