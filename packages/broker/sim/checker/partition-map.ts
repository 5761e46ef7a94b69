// Something per partition of a topic, found without making a name for every look-up.

export class PartitionMap<T> {
  private readonly topics = new Map<string, (T | undefined)[]>()

  get(topic: string, partition: number): T | undefined {
    return this.topics.get(topic)?.[partition]
  }

  getOrMake(topic: string, partition: number, make: () => T): T {
    let line = this.topics.get(topic)
    if (line === undefined) {
      line = []
      this.topics.set(topic, line)
    }
    let value = line[partition]
    if (value === undefined) {
      value = make()
      line[partition] = value
    }
    return value
  }

  *entries(): Iterable<readonly [topic: string, partition: number, value: T]> {
    for (const [topic, line] of this.topics) {
      for (const [partition, value] of line.entries()) if (value !== undefined) yield [topic, partition, value]
    }
  }
}
