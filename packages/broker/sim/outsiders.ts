// States in which a broker that does not belong to the majority stays while progress is demanded of the others.

/** What is wrong, for good, with a broker that does not belong to the majority. */
export const OUTSIDER_STATES = [
  'off',
  'cut off',
  'deaf',
  'mute',
  'deaf to brokers',
  'mute to brokers',
  'paused',
  'slow disk',
  'wiped',
] as const

export type OutsiderState = (typeof OUTSIDER_STATES)[number]
