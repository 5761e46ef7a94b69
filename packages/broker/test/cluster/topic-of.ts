// A topic as metadata hold it, for tests that care for nothing but where its replicas are.
import type { TopicDefinition } from '#src/cluster/metadata-command.js'

export const topicOf = (
  topicId: number,
  replicas: readonly (readonly number[])[],
  name = `topic-${topicId}`,
): TopicDefinition => ({
  topicId,
  name,
  partitions: replicas.length,
  replicas,
  founders: replicas,
  durability: 'flushed',
  codecs: ['none'],
  retentionMs: null,
  retentionBytes: null,
})
