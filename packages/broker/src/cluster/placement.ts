// Which nodes get the replicas of a topic.

/**
 * Spreads partitions over the members in turn, and topics by their id, so that leaders and followers are even.
 * @param members node ids, each once.
 * @param factor replicas of each partition, at most as many as there are members.
 * @returns for each partition its nodes, the one that should lead first.
 */
export function placeReplicas(
  members: readonly number[],
  partitions: number,
  factor: number,
  topicId: number,
): readonly (readonly number[])[] {
  const sorted = [...members].sort((a, b) => a - b)
  return Array.from({ length: partitions }, (_, partition) =>
    Array.from({ length: factor }, (_unused, replica) => sorted[(topicId + partition + replica) % sorted.length]!),
  )
}
