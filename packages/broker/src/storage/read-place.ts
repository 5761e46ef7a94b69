// Where a read begins. Control batches take no offset, so several batches may share one; indexes tell every batch apart.

/** At the batch that holds an offset, or at the one with an index. */
export interface ReadPlace {
  readonly by: 'offset' | 'index'
  readonly at: number
}
