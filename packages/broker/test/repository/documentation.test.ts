// What the documents show is true: their programs type-check against the built packages, their links lead somewhere,
// and the commands they name exist.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  checkPrograms,
  documents,
  type Fence,
  fences,
  namedScripts,
  numberedItems,
  relativeLinks,
} from './documentation.js'
import { RepositoryFile, ROOT, readRepository } from './repository.js'

/** Fences marked `ts fragment` are not complete programs; each has to be named here by how it begins. */
const FRAGMENTS: readonly { readonly path: string; readonly begins: string; readonly reason: string }[] = []

const repository = readRepository()
const typeScript = documents(repository)
  .flatMap(fences)
  .filter((fence) => fence.language === 'ts')

const isListed = (fence: Fence): boolean =>
  FRAGMENTS.some((fragment) => fragment.path === fence.path && fence.text.startsWith(fragment.begins))

describe('programs in the documents', () => {
  it('type-check against the built packages', { timeout: 240_000 }, () => {
    expect(checkPrograms(typeScript.filter((fence) => fence.info !== 'fragment'))).toEqual([])
  })

  it('are fragments only where that is listed', () => {
    const marked = typeScript.filter((fence) => fence.info === 'fragment')
    expect(marked.filter((fence) => !isListed(fence)).map((fence) => `${fence.path}:${fence.line}`)).toEqual([])
    expect(
      FRAGMENTS.filter((listed) => !marked.some((fence) => isListed(fence) && fence.path === listed.path)),
    ).toEqual([])
  })

  it('are told from wrong ones', { timeout: 240_000 }, () => {
    const fence = (text: string): Fence => ({ path: 'a.md', line: 10, language: 'ts', info: '', text })
    expect(checkPrograms([fence(`const a: number = 'one'\n`)])).toEqual([expect.stringContaining('a.md:11 ')])
    expect(checkPrograms([fence(`\nimport { nothing } from '@millrace/client'\nnothing()\n`)])).toEqual([
      expect.stringContaining('a.md:12 '),
    ])
    expect(checkPrograms([fence(`await Promise.resolve()\n`), fence('const a = 1\n'), fence('const a = 2\n')])).toEqual(
      [],
    )
  })
})

describe('links and commands in the documents', () => {
  it('lead somewhere', () => {
    const broken = documents(repository).flatMap((file) =>
      relativeLinks(file)
        .filter(({ path }) => !existsSync(join(ROOT, path)) && !path.startsWith('docs/api'))
        .map(({ line, path }) => `${file.path}:${line} ${path}`),
    )
    expect(broken).toEqual([])
  })

  it('exist', () => {
    const { scripts } = repository.json('package.json') as { scripts: Record<string, string> }
    const unknown = documents(repository).flatMap((file) =>
      namedScripts(file)
        .filter(({ script }) => scripts[script] === undefined)
        .map(({ line, script }) => `${file.path}:${line} ${script}`),
    )
    expect(unknown).toEqual([])
  })
})

describe('complaints about other clients', () => {
  const PAGE = 'docs/guide/complaints.md'
  const COUNT = 25
  const answers = numberedItems(repository.get(PAGE)!)
  const titles = /^\s*(?:(?:describe|test|it)\b.*)?['"`]complaint (\d+): /gm

  it('are all answered, with a page of the guide and with tests', () => {
    expect(answers.map(({ number }) => number)).toEqual(Array.from({ length: COUNT }, (_, i) => i + 1))
    const bare = answers.filter(
      ({ links }) => !links.some((path) => path.endsWith('.md')) || !links.some((path) => path.endsWith('.test.ts')),
    )
    expect(bare).toEqual([])
  })

  it('are named by the tests that the page names, and by no others', () => {
    const named = answers.flatMap(({ number, links }) =>
      links.filter((path) => path.endsWith('.test.ts')).map((path) => `${number} ${path}`),
    )
    const found = repository
      .below('packages/client/test/')
      .flatMap(({ path, text }) => [...text.matchAll(titles)].map(([, number]) => `${number} ${path}`))
    expect(named.sort()).toEqual([...new Set(found)].sort())
  })
})

describe('reading a document', () => {
  it('finds the items of a numbered list, with what they link to', () => {
    const file = new RepositoryFile(
      'docs/a.md',
      'text\n\n1. one, see [b](b.md#part)\n   and [c](../c.test.ts)\n2. two\n',
    )
    expect(numberedItems(file)).toEqual([
      { number: 1, links: ['docs/b.md', 'c.test.ts'] },
      { number: 2, links: [] },
    ])
  })

  it('finds fences with their language and their mark', () => {
    const file = new RepositoryFile('a.md', 'one\n```ts\nconst a = 1\n```\n\n```ts fragment\nb\n```\n```sh\nls\n```\n')
    expect(fences(file)).toEqual([
      { path: 'a.md', line: 2, language: 'ts', info: '', text: 'const a = 1\n' },
      { path: 'a.md', line: 6, language: 'ts', info: 'fragment', text: 'b\n' },
      { path: 'a.md', line: 9, language: 'sh', info: '', text: 'ls\n' },
    ])
  })

  it('puts the setup of a page in front of its programs, on the same line', () => {
    const file = new RepositoryFile(
      'a.md',
      '<!-- setup\nconst a = 1\nconst b = 2\n-->\n```ts run\na\nb\n```\n```text\n3\n```\n',
    )
    expect(fences(file)).toEqual([
      { path: 'a.md', line: 5, language: 'ts', info: 'run', text: 'const a = 1; const b = 2; a\nb\n' },
      { path: 'a.md', line: 9, language: 'text', info: '', text: '3\n' },
    ])
  })

  it('finds links inside the repository and commands', () => {
    const file = new RepositoryFile(
      'docs/a.md',
      'see [b](b.md#part), [c](../c.ts) and [d](https://e.example/f)\n`npm run sim -- --seeds 2`',
    )
    expect(relativeLinks(file).map((link) => link.path)).toEqual(['docs/b.md', 'c.ts'])
    expect(namedScripts(file)).toEqual([{ line: 2, script: 'sim' }])
  })
})
