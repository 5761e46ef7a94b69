// Who may import whom: the table of packages in docs/ARCHITECTURE.md, and the one door to the world.
import { type Finding, type Import, packageOf, type Repository, type RepositoryFile } from '../repository.js'

/** What code below a folder may import besides files of its own folder tree. The longest matching prefix decides. */
interface Layer {
  readonly prefix: string
  /** Relative and `#src` imports must stay below one of these. */
  readonly inside: readonly string[]
  /** Bare specifiers, whole or as a prefix that ends in `:` or `/`. */
  readonly packages: readonly string[]
}

const DEVELOPMENT = ['node:', 'vitest', 'fast-check']

const LAYERS: readonly Layer[] = [
  { prefix: 'packages/protocol/src/', inside: ['packages/protocol/src/'], packages: [] },
  {
    prefix: 'packages/protocol/',
    inside: ['packages/protocol/'],
    packages: [...DEVELOPMENT, '@millrace/protocol'],
  },
  { prefix: 'packages/native/src/', inside: ['packages/native/src/'], packages: ['node:'] },
  { prefix: 'packages/native/', inside: ['packages/native/'], packages: [...DEVELOPMENT, '@millrace/native'] },

  { prefix: 'packages/broker/src/', inside: ['packages/broker/src/'], packages: ['@millrace/protocol'] },
  ...['io/', 'dev/', 'main.ts', 'testing.ts', 'testing/'].map((entry) => ({
    prefix: `packages/broker/src/${entry}`,
    inside: ['packages/broker/src/'],
    packages: ['@millrace/protocol', '@millrace/native', 'node:'],
  })),
  { prefix: 'packages/broker/sim/checker/', inside: ['packages/broker/sim/checker/'], packages: [] },
  {
    prefix: 'packages/broker/',
    inside: ['packages/broker/'],
    packages: [
      ...DEVELOPMENT,
      'typescript',
      'rxjs',
      'msgpackr',
      '@millrace/protocol',
      '@millrace/native',
      '@millrace/client',
      '@millrace/broker',
    ],
  },

  { prefix: 'packages/client/src/', inside: ['packages/client/src/'], packages: ['@millrace/protocol'] },
  {
    prefix: 'packages/client/src/streams/',
    inside: ['packages/client/src/'],
    packages: ['@millrace/protocol', 'rxjs'],
  },
  {
    prefix: 'packages/client/src/links/',
    inside: ['packages/client/src/'],
    packages: ['@millrace/protocol', 'node:'],
  },
  {
    prefix: 'packages/client/src/cli/',
    inside: ['packages/client/src/'],
    packages: ['@millrace/protocol', 'rxjs', 'node:'],
  },
  {
    prefix: 'packages/client/',
    inside: ['packages/client/'],
    packages: [
      ...DEVELOPMENT,
      'rxjs',
      'msgpackr',
      'typescript',
      '@millrace/protocol',
      '@millrace/client',
      '@millrace/broker',
    ],
  },

  {
    prefix: 'examples/',
    inside: ['examples/'],
    packages: [...DEVELOPMENT, 'rxjs', 'sql.js', 'vega-datasets', '@millrace/client', '@millrace/broker'],
  },
]

/** Imports that cross a layer. */
export function layering(repository: Repository): readonly Finding[] {
  const findings: Finding[] = []
  for (const file of repository.files) {
    if (!file.isTypeScript) continue
    const layer = layerOf(file.path)
    if (layer === undefined) continue
    for (const imported of file.imports) {
      const complaint = complain(file, layer, imported)
      if (complaint !== null)
        findings.push({ rule: 'layering', path: file.path, line: imported.line, message: complaint })
    }
  }
  return findings
}

function layerOf(path: string): Layer | undefined {
  const matching = LAYERS.filter((layer) => path.startsWith(layer.prefix))
  return matching.sort((left, right) => right.prefix.length - left.prefix.length)[0]
}

function complain(file: RepositoryFile, layer: Layer, { specifier, target }: Import): string | null {
  if (target !== null) {
    if (packageOf(target) !== packageOf(file.path))
      return `${specifier} reaches into another package; import it by its name`
    return layer.inside.some((prefix) => target.startsWith(prefix)) ? null : `${specifier} leaves ${layer.prefix}`
  }
  return layer.packages.some((allowed) => permits(allowed, specifier))
    ? null
    : `${layer.prefix} may not import ${specifier}`
}

function permits(allowed: string, specifier: string): boolean {
  return allowed.endsWith(':')
    ? specifier.startsWith(allowed)
    : specifier === allowed || specifier.startsWith(`${allowed}/`)
}
