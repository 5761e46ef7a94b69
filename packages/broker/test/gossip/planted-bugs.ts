// Bugs planted in a copy of compiled gossip, one at a time, by replacing text. Whoever is to catch one stands beside it.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { mergeClaims } from '#src/gossip/claims.js'
import type { CoreClass } from './gossip-world.js'
import type { SealClasses } from './seal-checks.js'

export type Catcher = 'scenarios' | 'merge' | 'seal'

export interface PlantedBug {
  readonly name: string
  readonly file: string
  readonly find: string
  readonly replace: string
  readonly catcher: Catcher
}

export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    name: 'a contradiction without a higher incarnation',
    file: 'own-claim.js',
    find: 'isOther ? 0 : above.incarnation + 1',
    replace: 'isOther ? 0 : above.incarnation',
    catcher: 'scenarios',
  },
  {
    name: 'dead is believed over a newer alive',
    file: 'claims.js',
    find: 'return compareVersions(left, right) || RANK[left.state] - RANK[right.state]',
    replace: 'return RANK[left.state] - RANK[right.state] || compareVersions(left, right)',
    catcher: 'scenarios',
  },
  {
    name: 'what was said of an old process counts for the new one',
    file: 'claims.js',
    find: 'return left.bootId - right.bootId || left.incarnation - right.incarnation',
    replace: 'return left.incarnation - right.incarnation || left.bootId - right.bootId',
    catcher: 'scenarios',
  },
  {
    name: 'a suspicion is never shortened',
    file: 'suspicion.js',
    find: 'Math.min(accusers, wanted + 1)',
    replace: 'Math.min(1, accusers)',
    catcher: 'scenarios',
  },
  {
    name: 'the same accuser confirms again',
    file: 'claims.js',
    find: '[...new Set([...known, ...heard])]',
    replace: '[...known, ...heard]',
    catcher: 'scenarios',
  },
  {
    name: 'news are passed on for ever',
    file: 'broadcast-queue.js',
    find: 'if (sent + 1 < limit)',
    replace: 'if (limit > 0)',
    catcher: 'scenarios',
  },
  {
    name: 'a suspect is not told',
    file: 'gossip-state.js',
    find: "entry.claim.state !== 'alive'",
    replace: "entry.claim.state === 'left'",
    catcher: 'scenarios',
  },
  {
    name: 'missing nacks are held against the other one',
    file: 'probing.js',
    find: 'probe.helpers - Math.min(probe.nacks, probe.helpers)',
    replace: '0',
    catcher: 'scenarios',
  },
  {
    name: 'who stood still blames the others',
    file: 'gossip-core.js',
    find: 'if (lateMs > state.limits.stallMs)',
    replace: 'if (lateMs < 0)',
    catcher: 'scenarios',
  },
  {
    name: 'nobody is asked to probe, too',
    file: 'probing.js',
    find: 'nowMs >= probe.indirectAtMs && probe.helpers === 0',
    replace: 'nowMs < 0',
    catcher: 'scenarios',
  },
  {
    name: 'anybody may be a member',
    file: 'learning.js',
    find: 'registry !== null && !registry.has(claim.nodeId)',
    replace: 'registry === undefined',
    catcher: 'scenarios',
  },
  {
    name: 'versions far ahead are believed',
    file: 'learning.js',
    find: 'return claim.incarnation > known.incarnation + maxStep',
    replace: 'return claim.incarnation < 0 - maxStep',
    catcher: 'scenarios',
  },
  {
    name: 'nobody looks for the dead',
    file: 'spreading.js',
    find: 'nowMs >= state.nextReconnectAtMs',
    replace: 'nowMs < 0',
    catcher: 'scenarios',
  },
  {
    name: 'a pull for everybody who has more',
    file: 'digests.js',
    find: 'if (wanted === null)',
    replace: 'if (wanted !== undefined)',
    catcher: 'scenarios',
  },
  {
    name: 'of two records of one version the last one heard counts',
    file: 'claims.js',
    find: 'return textOf(known.record) >= textOf(heard.record) ? known : heard',
    replace: 'return textOf(known.record) === textOf(heard.record) ? known : heard',
    catcher: 'merge',
  },
  {
    name: 'the first few accusers are remembered instead of the lowest',
    file: 'claims.js',
    find: '.sort((left, right) => left - right).slice(0, most)',
    replace: '.slice(0, most)',
    catcher: 'merge',
  },
  {
    name: 'the replay window is off',
    file: 'replay-window.js',
    find: 'this.seen[counter % WINDOW] === 0',
    replace: 'this.seen[counter % WINDOW] >= 0',
    catcher: 'seal',
  },
  {
    name: 'an old process may speak again',
    file: 'replay-window.js',
    find: 'return bootId > this.bootId',
    replace: 'return bootId > 0',
    catcher: 'seal',
  },
  {
    name: 'a datagram for somebody else is taken',
    file: 'sealing.js',
    find: 'to !== this.options.nodeId && !isForAnyone',
    replace: 'to === 0 && !isForAnyone',
    catcher: 'seal',
  },
  {
    name: 'the cluster is not part of the seal',
    file: 'sealing.js',
    find: 'bytes.set(this.cluster)',
    replace: 'bytes.fill(0)',
    catcher: 'seal',
  },
]

export interface PlantedGossip extends SealClasses {
  readonly GossipCore: CoreClass
  readonly mergeClaims: typeof mergeClaims
}

const COMPILED = join(import.meta.dirname, '..', '..', 'dist', 'gossip')
/** Inside the package, so that what gossip imports is found from there. */
const OUTPUT = join(import.meta.dirname, '..', '..', 'dist-dev', 'planted')

/** Gossip with the bug in it. @throws when the text to replace is not there exactly once. */
export async function plant(bug: PlantedBug): Promise<PlantedGossip> {
  const folder = join(OUTPUT, `gossip-${bug.name.replaceAll(/[^a-z0-9]+/gi, '-')}-${process.pid}`)
  mkdirSync(folder, { recursive: true })
  try {
    for (const name of readdirSync(COMPILED).filter((file) => file.endsWith('.js'))) {
      const text = readFileSync(join(COMPILED, name), 'utf8')
      writeFileSync(join(folder, name), name === bug.file ? changed(text, bug) : text)
    }
    const load = <T>(name: string): Promise<T> => import(/* @vite-ignore */ pathToFileURL(join(folder, name)).href)
    const { GossipCore } = await load<Pick<PlantedGossip, 'GossipCore'>>('gossip-core.js')
    const { mergeClaims } = await load<Pick<PlantedGossip, 'mergeClaims'>>('claims.js')
    const { GossipSeal } = await load<Pick<PlantedGossip, 'GossipSeal'>>('sealing.js')
    const { Keyring } = await load<Pick<PlantedGossip, 'Keyring'>>('keyring.js')
    return { GossipCore, mergeClaims, GossipSeal, Keyring }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function changed(text: string, bug: PlantedBug): string {
  if (text.split(bug.find).length !== 2) throw new Error(`${bug.name}: ${bug.file} has not exactly one ${bug.find}`)
  return text.replace(bug.find, () => bug.replace)
}
