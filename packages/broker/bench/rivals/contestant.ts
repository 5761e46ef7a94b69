// What each client must be able to do in the contest, whatever it is called there, and what the bench and the process of a
// client say to each other.

export type Durability = 'buffered' | 'flushed'

/** `fastest` is the fastest form that the client has to look at every value; `each` one by one to code that may await. */
export type ConsumeForm = 'fastest' | 'each'

export type ClientName = 'millrace' | 'platformatic' | 'kafkajs' | 'nats' | 'redis'

/** Where the servers of one system listen. NATS and Redis have their durability per server, the others per topic. */
export type Addresses = Readonly<Record<Durability, string>>

export interface Sender {
  /** Resolves when the record is acknowledged. */
  send(value: Buffer): Promise<unknown>
  /** Resolves when all records are acknowledged. */
  sendBatch(values: readonly Buffer[]): Promise<unknown>
  close(): Promise<void>
}

/**
 * Takes a value: a buffer of its own, or where it stands in one that holds more. @returns true when it was the last one.
 */
export type Take = (bytes: Uint8Array, start?: number, end?: number) => boolean

export interface Contestant {
  createTopic(topic: string, durability: Durability): Promise<void>
  removeTopic(topic: string, durability: Durability): Promise<void>
  sender(topic: string, durability: Durability): Promise<Sender>
  /** How many records the server has. */
  stored(topic: string, durability: Durability): Promise<number>
  /** Hands every record of a `buffered` topic to `take`, from the first on, until it returns true; then lets go of everything. */
  consume(topic: string, form: ConsumeForm, take: Take): Promise<void>
  close(): Promise<void>
}

/** Imports a package that the bench has installed for the clients. */
export type Load = (name: string) => Promise<unknown>

export interface OpenOrder {
  readonly kind: 'open'
  readonly client: ClientName
  readonly addresses: Addresses
  /** The module that imports the clients' packages; empty where none is needed. */
  readonly loader: string
}

export interface TopicOrder {
  readonly kind: 'create' | 'remove'
  readonly topic: string
  readonly durability: Durability
}

export interface FillOrder {
  readonly kind: 'fill'
  readonly topic: string
  readonly recordBytes: number
  readonly records: number
}

export interface ProduceOrder {
  readonly kind: 'produce'
  readonly topic: string
  readonly durability: Durability
  readonly recordBytes: number
  /** 1 for single sends. */
  readonly recordsPerCall: number
  /** Calls at once. */
  readonly callers: number
  readonly seconds: number
  /** The round that does not count: long enough for the client's code to be compiled. */
  readonly warmUp: boolean
}

export interface ConsumeOrder {
  readonly kind: 'consume'
  readonly topic: string
  readonly form: ConsumeForm
  readonly recordBytes: number
  /** As many as there are: who fetches far ahead has it counted, and that none is missing is seen each time. */
  readonly records: number
}

export type Order = OpenOrder | TopicOrder | FillOrder | ProduceOrder | ConsumeOrder | { readonly kind: 'close' }

/** What a measured order took; the others answer with zeros. */
export interface Figures {
  readonly records: number
  readonly seconds: number
  /** User and system time of the client's process, all its threads. */
  readonly cpuSeconds: number
}

export type Answer = { readonly figures: Figures } | { readonly error: string }
