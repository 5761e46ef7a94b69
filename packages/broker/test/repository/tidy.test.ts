// The repository lints itself: each rule holds for the real files, and is shown to fire on made-up ones.
import { describe, expect, it } from 'vitest'
import { type Finding, Repository, readRepository } from './repository.js'
import { ambient } from './rules/ambient.js'
import { architectureMap, MAP } from './rules/architecture-map.js'
import { cycles } from './rules/cycles.js'
import { applyExceptions, EXCEPTIONS } from './rules/exceptions.js'
import { layering } from './rules/layering.js'
import { leftovers } from './rules/leftovers.js'
import { manifests } from './rules/manifests.js'
import { barrels, fileLength, firstLine, functionLength, names } from './rules/shape.js'

const RULES = {
  layering,
  ambient,
  cycles,
  fileLength,
  functionLength,
  firstLine,
  names,
  barrels,
  leftovers,
  architectureMap,
  manifests,
}

const show = (finding: Finding): string => `${finding.path}:${finding.line} ${finding.rule}: ${finding.message}`

/** The messages a rule has for made-up files. */
function messages(
  rule: (repository: Repository) => readonly Finding[],
  files: Record<string, string>,
): readonly string[] {
  return rule(new Repository(files)).map((finding) => finding.message)
}

describe('the repository', () => {
  it('is tidy', () => {
    const repository = readRepository()
    expect(repository.files.length).toBeGreaterThan(20)
    const findings = Object.values(RULES).flatMap((rule) => rule(repository))
    expect(applyExceptions(findings).map(show)).toEqual([])
  })

  it('gives a reason for every exception', () => {
    for (const exception of EXCEPTIONS) expect(exception.reason.length).toBeGreaterThan(20)
  })
})

describe('exceptions', () => {
  const exception = { rule: 'layering', path: 'a.ts', allows: 'rxjs', reason: 'because the test says so' }
  const finding = { rule: 'layering', path: 'a.ts', line: 1, message: 'may not import rxjs' }

  it('cover the finding they name and nothing else', () => {
    expect(applyExceptions([finding], [exception])).toEqual([])
    expect(applyExceptions([finding, { ...finding, path: 'b.ts' }], [exception])).toHaveLength(1)
  })

  it('are findings themselves once nobody needs them', () => {
    expect(applyExceptions([], [exception]).map((left) => left.rule)).toEqual(['exceptions'])
  })
})

describe('layering', () => {
  const refused: readonly (readonly [string, string])[] = [
    ['packages/protocol/src/frame.ts', 'node:buffer'],
    ['packages/protocol/src/frame.ts', 'rxjs'],
    ['packages/protocol/src/frame.ts', '@millrace/client'],
    ['packages/protocol/test/frame.test.ts', '@millrace/broker'],
    ['packages/native/src/ring.ts', '@millrace/protocol'],
    ['packages/broker/src/storage/log.ts', 'node:fs'],
    ['packages/broker/src/storage/log.ts', '@millrace/native'],
    ['packages/broker/src/io/ring.ts', '@millrace/client'],
    ['packages/broker/src/main.ts', '@millrace/client'],
    ['packages/broker/src/main.ts', '../test/cluster.js'],
    ['packages/broker/src/main.ts', '../../client/src/index.js'],
    ['packages/broker/sim/checker/history.ts', '@millrace/client'],
    ['packages/broker/sim/checker/history.ts', '#src/partition/log.js'],
    ['packages/broker/sim/checker/history.ts', '../cluster.js'],
    ['packages/client/src/producer.ts', 'rxjs'],
    ['packages/client/src/producer.ts', 'node:net'],
    ['packages/client/src/producer.ts', '@millrace/broker'],
    ['packages/client/src/links/tcp.ts', 'rxjs'],
    ['packages/client/src/streams/operators.ts', 'node:events'],
    ['examples/flights/src/main.ts', '../../../packages/client/src/index.js'],
  ]
  it.each(refused)('%s may not import %s', (path, specifier) => {
    expect(messages(layering, { [path]: `import * as it from '${specifier}'` })).toHaveLength(1)
  })

  const allowed: readonly (readonly [string, string])[] = [
    ['packages/protocol/src/frame.ts', './limits.js'],
    ['packages/protocol/test/frame.test.ts', '#src/frame.js'],
    ['packages/broker/src/io/ring.ts', '@millrace/native'],
    ['packages/broker/src/io/ring.ts', 'node:fs'],
    ['packages/broker/src/main.ts', 'node:process'],
    ['packages/broker/sim/cluster.ts', '@millrace/client'],
    ['packages/client/src/streams/operators.ts', 'rxjs/operators'],
    ['packages/client/src/links/tcp.ts', 'node:net'],
    ['packages/client/test/end-to-end.test.ts', '@millrace/broker/testing'],
  ]
  it.each(allowed)('%s may import %s', (path, specifier) => {
    expect(messages(layering, { [path]: `import * as it from '${specifier}'` })).toEqual([])
  })

  it.each([
    `export { a } from 'node:fs'`,
    `const a = await import('node:fs')`,
    `type A = import('node:fs').Stats`,
    `import type { Stats } from 'node:fs'`,
    `const a = require('node:fs')`,
  ])('sees %s', (text) => {
    expect(messages(layering, { 'packages/protocol/src/frame.ts': text })).toHaveLength(1)
  })
})

describe('ambient', () => {
  const inBroker = (text: string): readonly string[] =>
    messages(ambient, { 'packages/broker/src/storage/log.ts': text })

  it.each([
    'const now = Date.now()',
    'const now = new Date()',
    'const now = Date()',
    'const read = Date',
    'const now = performance.now()',
    'const chance = Math.random()',
    'setTimeout(() => {}, 1)',
    'setInterval(() => {}, 1)',
    'setImmediate(() => {})',
    'queueMicrotask(() => {})',
    'process.nextTick(() => {})',
    'const signal = AbortSignal.timeout(5)',
    'const id = crypto.randomUUID()',
    'const now = globalThis.performance',
    'const timers = { setTimeout }',
    'class A { now = Date.now }',
    'await fetch(url)',
    'console.error(1)',
  ])('refuses %s', (text) => {
    expect(inBroker(text)).toHaveLength(1)
  })

  it.each([
    'const date = new Date(wallMs).toISOString()',
    'const ms = Date.UTC(2026, 1, 1)',
    'const now = clock.performance.now()',
    'interface Times { performance: number; Date: number; setTimeout(): void }',
    'function f(process: number): number { return process }',
    'const kind = { Date: 1 }',
    'function f(date: Date): Date { return date }',
    'const largest = Math.max(1, 2)',
  ])('allows %s', (text) => {
    expect(inBroker(text)).toEqual([])
  })

  it.each([
    'packages/broker/src/io/clock.ts',
    'packages/broker/src/main.ts',
    'packages/client/src/links/tcp.ts',
    'packages/broker/sim/main.ts',
  ])('leaves %s alone', (path) => {
    expect(messages(ambient, { [path]: 'const now = Date.now()' })).toEqual([])
  })
})

describe('cycles', () => {
  it('finds circles of any length, through type imports and #src too', () => {
    const files = {
      'packages/client/src/a.ts': `import type { B } from './b.js'`,
      'packages/client/src/b.ts': `export { c } from './deep/c.js'`,
      'packages/client/src/deep/c.ts': `import '#src/a.js'`,
      'packages/client/src/d.ts': `import './a.js'`,
    }
    expect(cycles(new Repository(files))).toHaveLength(1)
    expect(messages(cycles, files)[0]).toContain('a.ts ↔ packages/client/src/b.ts ↔ packages/client/src/deep/c.ts')
  })

  it('finds a file that imports itself', () => {
    expect(messages(cycles, { 'packages/client/src/a.ts': `import './a.js'` })).toHaveLength(1)
  })

  it('finds two circles apart from each other', () => {
    const files = {
      'packages/client/src/a.ts': `import './b.js'`,
      'packages/client/src/b.ts': `import './a.js'\nimport './c.js'`,
      'packages/client/src/c.ts': `import './d.js'`,
      'packages/client/src/d.ts': `import './c.js'`,
    }
    expect(cycles(new Repository(files))).toHaveLength(2)
  })

  it('allows a diamond', () => {
    const files = {
      'packages/client/src/a.ts': `import './b.js'\nimport './c.js'`,
      'packages/client/src/b.ts': `import './d.js'`,
      'packages/client/src/c.ts': `import './d.js'`,
      'packages/client/src/d.ts': '',
    }
    expect(messages(cycles, files)).toEqual([])
  })
})

describe('shape', () => {
  it('limits files, functions and the addon', () => {
    const lines = (count: number): string => `// why\n${'const a = 1\n'.repeat(count - 1)}`
    expect(messages(fileLength, { 'packages/client/src/a.ts': lines(400) })).toEqual([])
    expect(messages(fileLength, { 'packages/client/src/a.ts': lines(401) })).toHaveLength(1)
    expect(messages(fileLength, { 'packages/client/test/a.test.ts': lines(401) })).toEqual([])
    const addon = Object.fromEntries([1, 2, 3, 4, 5, 6].map((at) => [`packages/native/cpp/${at}.cc`, lines(380)]))
    expect(messages(fileLength, addon)).toHaveLength(1)

    const body = (count: number): string => `function f() {\n${'  g()\n'.repeat(count - 2)}}\n`
    expect(messages(functionLength, { 'packages/client/src/a.ts': body(60) })).toEqual([])
    expect(messages(functionLength, { 'packages/client/src/a.ts': body(61) })).toHaveLength(1)
  })

  it('wants a first line that says what the file is for', () => {
    expect(messages(firstLine, { 'packages/client/src/a.ts': '// Says it.\n' })).toEqual([])
    expect(messages(firstLine, { '.ci/a.mjs': '#!/usr/bin/env node\n// Says it.\n' })).toEqual([])
    expect(messages(firstLine, { 'packages/client/src/a.ts': `import 'b'\n// late` })).toHaveLength(1)
    expect(messages(firstLine, { 'packages/client/src/a.ts': '//\n' })).toHaveLength(1)
    expect(messages(firstLine, { 'packages/native/cpp/a.cc': '#include <a.h>\n' })).toHaveLength(1)
  })

  it.each(['utils.ts', 'string-helpers.ts', 'common/a.ts', 'slot-manager.ts', 'log-impl.ts', 'PageTable.ts'])(
    'refuses the name %s',
    (name) => {
      expect(messages(names, { [`packages/client/src/${name}`]: '' })).toHaveLength(1)
    },
  )

  it.each(['page-table.ts', 'commonly-read.ts', 'main.ts'])('allows the name %s', (name) => {
    expect(messages(names, { [`packages/client/src/${name}`]: '' })).toEqual([])
  })

  it('knows a barrel, and a public face', () => {
    const manifest = '{ "exports": { ".": { "default": "./dist/index.js" } } }'
    const barrel = `export { a } from './a.js'\nexport { b } from './b.js'`
    const files = (path: string, text: string): Record<string, string> => ({
      'packages/client/package.json': manifest,
      [path]: text,
    })
    expect(messages(barrels, files('packages/client/src/streams/index.ts', barrel))).toHaveLength(1)
    expect(messages(barrels, files('packages/client/src/index.ts', barrel))).toEqual([])
    expect(
      messages(barrels, files('packages/client/src/a.ts', `export * from './b.js'\nexport const c = 1`)),
    ).toHaveLength(1)
    expect(
      messages(barrels, files('packages/client/src/a.ts', `import { b } from './index.js'\nexport const a = b`)),
    ).toHaveLength(1)
    expect(
      messages(barrels, files('packages/client/src/a.ts', `export { b } from './b.js'\nexport const c = 1`)),
    ).toEqual([])
    expect(messages(barrels, files('packages/client/src/a.ts', `export { asyncScheduler } from 'rxjs'`))).toEqual([])
  })
})

describe('leftovers', () => {
  const inClient = (text: string): readonly string[] => messages(leftovers, { 'packages/client/src/a.ts': text })

  it.each([
    `// ${'TO'}DO later`,
    `// ${'FIX'}ME`,
    `it.${'only'}('works', f)`,
    `describe.${'skip'}('works', f)`,
    `it.each([1]).${'only'}('works', f)`,
    `it.${'todo'}('works')`,
    `console.${'log'}(1)`,
    `const a = b as ${'unknown'} as C`,
    'try { f() } catch {}',
    'debugger',
    `// @ts-${'ignore'}`,
  ])('refuses %s', (text) => {
    expect(inClient(text)).toHaveLength(1)
  })

  it.each([
    `it.skipIf(noRing)('works', f)`,
    `array.only()`,
    'try { f() } catch { /* gone already, which is what we want */ }',
    'try { f() } catch (error) { report(error) }',
    `const text = 'console.${'log'}(1)'`,
    'const a = b as unknown',
  ])('allows %s', (text) => {
    expect(inClient(text)).toEqual([])
  })

  it('lets tests hand over wrong values on purpose, and nothing else', () => {
    const inTest = (text: string): readonly string[] => messages(leftovers, { 'packages/client/test/a.test.ts': text })
    expect(inTest(`send(undefined as ${'unknown'} as string)`)).toEqual([])
    expect(inTest(`send(5 as ${'unknown'} as string)`)).toEqual([])
    expect(inTest(`send(broker as ${'unknown'} as string)`)).toHaveLength(1)
    expect(inClient(`send(5 as ${'unknown'} as string)`)).toHaveLength(1)
  })

  it('lets programs print', () => {
    expect(messages(leftovers, { 'packages/client/src/cli/main.ts': 'console.log(1)' })).toEqual([])
  })
})

describe('the map', () => {
  it('must name every folder with code, and only those', () => {
    const files = {
      'packages/broker/src/io/clock.ts': '',
      'packages/broker/sim/checker/history.ts': '',
      [MAP]: '| `packages/broker/src/` | `packages/broker/src/storage/` | `packages/broker/sim/` |',
    }
    expect(messages(architectureMap, files)).toEqual([
      expect.stringContaining('does not name packages/broker/sim/checker/'),
      expect.stringContaining('does not name packages/broker/src/io/'),
      expect.stringContaining('names packages/broker/src/storage/, which does not exist'),
    ])
    expect(messages(architectureMap, {})).toEqual(['is missing'])
  })
})

describe('manifests', () => {
  const manifest = (value: object): Record<string, string> => ({
    'packages/client/package.json': JSON.stringify(value),
  })

  it('refuse install scripts, loose versions, foreign dependencies and commands that are not there', () => {
    expect(messages(manifests, manifest({ scripts: { postinstall: 'node x' } }))).toHaveLength(1)
    expect(messages(manifests, manifest({ devDependencies: { rxjs: '^7.8.0' } }))).toHaveLength(1)
    expect(
      messages(manifests, manifest({ name: '@millrace/client', dependencies: { msgpackr: '2.1.3' } })),
    ).toHaveLength(1)
    expect(messages(manifests, manifest({ bin: { millrace: 'bin/millrace.js' } }))).toHaveLength(1)
    const good = {
      name: '@millrace/client',
      dependencies: { '@millrace/protocol': '0.1.0' },
      devDependencies: { rxjs: '7.8.2' },
    }
    expect(messages(manifests, manifest(good))).toEqual([])
  })

  it('refuse a lock file that names a registry or lacks a platform', () => {
    const lock = (packages: object): Record<string, string> => ({ 'package-lock.json': JSON.stringify({ packages }) })
    expect(
      messages(manifests, lock({ 'node_modules/a': { resolved: 'https://registry.example/a.tgz' } })),
    ).toHaveLength(1)
    expect(
      messages(manifests, lock({ 'node_modules/a': { optionalDependencies: { 'a-darwin': '1.0.0' } } })),
    ).toHaveLength(1)
    const good = { 'node_modules/a': { optionalDependencies: { 'a-darwin': '1.0.0' } }, 'node_modules/a-darwin': {} }
    expect(messages(manifests, lock({ ...good, 'node_modules/b': { resolved: 'packages/b', link: true } }))).toEqual([])
  })
})
