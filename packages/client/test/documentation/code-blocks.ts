// The code blocks of the documentation. In a page, ```ts is compiled, and ```ts run is run against a broker as well; a
// ```text right behind the latter is what it prints. `<!-- setup` begins an invisible comment whose lines stand before
// the code of every block from there to the next setup, so that a page need not declare the same things again and again.
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../../../../', import.meta.url))

export interface CodeBlock {
  /** Path of the page from the root of the repository. */
  readonly page: string
  /** Of the first line of code, from 1. */
  readonly line: number
  readonly code: string
  readonly runs: boolean
  /** What it prints, when the page says so. */
  readonly output: string | null
}

/** Folders with pages; docs/api is made from docstrings. */
const FOLDERS = ['', 'docs/', 'docs/decisions/', 'docs/guide/', ...below('packages/'), ...below('examples/')]

function below(folder: string): string[] {
  return readdirSync(`${ROOT}${folder}`).map((name) => `${folder}${name}/`)
}

export function pages(): string[] {
  const found = FOLDERS.flatMap((folder) => readdirSync(`${ROOT}${folder}`).map((name) => `${folder}${name}`))
  return found.filter((name) => name.endsWith('.md')).sort()
}

/** Every TypeScript block of a page. Its code has blank lines in front, so that its lines have the page's numbers. */
export function blocksOf(page: string): CodeBlock[] {
  const lines = readFileSync(`${ROOT}${page}`, 'utf8').split('\n')
  const blocks: CodeBlock[] = []
  let setup: string[] = []
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!
    if (line.startsWith('<!-- setup')) {
      const end = lines.indexOf('-->', i)
      setup = lines.slice(i + 1, end).map((text) => text.trimEnd())
      i = end
      continue
    }
    const fence = /^```(\w+)( run)?$/.exec(line)
    if (fence === null) continue
    const end = lines.indexOf('```', i + 1)
    if (end < 0) throw new Error(`${page}:${i + 1} has no end`)
    if (fence[1] === 'ts') {
      const code = lines.slice(i + 1, end)
      blocks.push({
        page,
        line: i + 2,
        code: [...setup, ...blank(i + 1 - setup.length), ...code, 'export {}'].join('\n'),
        runs: fence[2] !== undefined,
        output: outputAt(lines, end + 1),
      })
    }
    i = end
  }
  return blocks
}

const blank = (count: number): string[] => new Array<string>(Math.max(0, count)).fill('')

/** The text block that follows, with at most an empty line between. */
function outputAt(lines: readonly string[], from: number): string | null {
  const start = lines[from] === '' ? from + 1 : from
  if (lines[start] !== '```text') return null
  return lines.slice(start + 1, lines.indexOf('```', start + 1)).join('\n')
}
