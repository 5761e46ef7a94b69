// The documents as programs: finds the TypeScript fences of Markdown files and checks their types.
import { join, posix } from 'node:path'
import ts from 'typescript'
import { type Repository, type RepositoryFile, ROOT } from './repository.js'

/** One fenced block of a Markdown file. `info` is what stands behind the language. */
export interface Fence {
  readonly path: string
  readonly line: number
  readonly language: string
  readonly info: string
  readonly text: string
}

/** The documents people read; what typedoc generates is not among them. */
export function documents(repository: Repository): readonly RepositoryFile[] {
  return repository.files.filter((file) => file.path.endsWith('.md') && !file.path.startsWith('docs/api/'))
}

/**
 * Every fenced block of a document. What stands in an HTML comment that begins with `<!-- setup`, a statement on each line, is
 * put in front of the first line of every TypeScript block from there on, so that a page need not declare the same things
 * again and again.
 */
export function fences(file: RepositoryFile): readonly Fence[] {
  const found: Fence[] = []
  let open: { line: number; mark: string; language: string; info: string; lines: string[] } | null = null
  let setup = ''
  let inSetup = false
  file.lines.forEach((text, index) => {
    if (open === null && text.startsWith('<!-- setup')) {
      setup = ''
      inSetup = true
      return
    }
    if (inSetup) {
      if (text === '-->') inSetup = false
      else setup += `${text}; `
      return
    }
    const match = /^\s*(`{3,})\s*(\S*)\s*(.*)$/.exec(text)
    if (open === null) {
      if (match === null) return
      open = { line: index + 1, mark: match[1] ?? '', language: match[2] ?? '', info: match[3] ?? '', lines: [] }
    } else if (text.trim() === open.mark) {
      const { line, language, info, lines } = open
      const before = language === 'ts' ? setup : ''
      found.push({ path: file.path, line, language, info, text: `${before}${lines.join('\n')}\n` })
      open = null
    } else open.lines.push(text)
  })
  return found
}

const OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  moduleDetection: ts.ModuleDetectionKind.Force,
  strict: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: true,
  noEmit: true,
  types: ['node'],
}

/** Files of the library and of packages, parsed once for all checks. */
const parsed = new Map<string, ts.SourceFile | undefined>()

/**
 * Checks the types of programs as if each were a file in the repository's root, so that packages resolve as they do
 * for a user. @returns one message per complaint, with the document and its line.
 */
export function checkPrograms(programs: readonly Fence[]): readonly string[] {
  const virtual = new Map(programs.map((fence, at) => [posix.join(ROOT, `fence-${at}.ts`), fence]))
  const host = ts.createCompilerHost(OPTIONS)
  const { fileExists, readFile, getSourceFile } = host
  host.getCurrentDirectory = () => ROOT
  host.fileExists = (path) => virtual.has(path) || fileExists(path)
  host.readFile = (path) => virtual.get(path)?.text ?? readFile(path)
  host.getSourceFile = (path, options, ...rest) => {
    const fence = virtual.get(path)
    if (fence !== undefined) return ts.createSourceFile(path, fence.text, options)
    if (!parsed.has(path)) parsed.set(path, getSourceFile(path, options, ...rest))
    return parsed.get(path)
  }
  const program = ts.createProgram([...virtual.keys()], OPTIONS, host)
  return ts.getPreEmitDiagnostics(program).map((diagnostic) => {
    const message = ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n')
    const fence = diagnostic.file === undefined ? undefined : virtual.get(diagnostic.file.fileName)
    if (fence === undefined || diagnostic.start === undefined) return message
    const at = diagnostic.file?.getLineAndCharacterOfPosition(diagnostic.start)
    return `${fence.path}:${fence.line + 1 + (at?.line ?? 0)} ${message}`
  })
}

/** A program that a page runs, and what the page says it prints: the text block right behind it. */
export interface RunningProgram {
  readonly program: Fence
  readonly output: string | null
}

/** The programs marked `ts run`. */
export function runningPrograms(found: readonly Fence[]): readonly RunningProgram[] {
  return found.flatMap((program, at) => {
    if (program.language !== 'ts' || program.info !== 'run') return []
    const next = found[at + 1]
    const isOutput = next?.path === program.path && next.language === 'text'
    return [{ program, output: isOutput ? next.text : null }]
  })
}

/** A program without its types, as Node runs it. */
export function transpiled({ text }: Fence): string {
  return ts.transpileModule(text, { compilerOptions: { ...OPTIONS, noEmit: false }, fileName: 'program.mts' })
    .outputText
}

/** Links of a document to other files of the repository, without what follows the `#`. */
export function relativeLinks(file: RepositoryFile): readonly { readonly line: number; readonly path: string }[] {
  return file.lines.flatMap((text, index) =>
    [...text.matchAll(/\]\(([^)\s#]+)(?:#[^)]*)?\)/g)]
      .map((match) => match[1] ?? '')
      .filter((target) => !/^\w+:/.test(target))
      .map((target) => ({ line: index + 1, path: join(posix.dirname(file.path), target) })),
  )
}

/** The items of a document's numbered lists, with the files of the repository that they link to. */
export function numberedItems(
  file: RepositoryFile,
): readonly { readonly number: number; readonly links: readonly string[] }[] {
  const starts = file.lines.flatMap((text, index) => {
    const number = /^(\d+)\. /.exec(text)?.[1]
    return number === undefined ? [] : [{ number: Number(number), line: index + 1 }]
  })
  const links = relativeLinks(file)
  return starts.map(({ number, line }, at) => {
    const end = starts[at + 1]?.line ?? Number.POSITIVE_INFINITY
    return { number, links: links.filter((link) => link.line >= line && link.line < end).map(({ path }) => path) }
  })
}

/** Names of the root scripts a document tells its reader to run. */
export function namedScripts(file: RepositoryFile): readonly { readonly line: number; readonly script: string }[] {
  return file.lines.flatMap((text, index) =>
    [...text.matchAll(/\bnpm run (?:--?\w+ )*([\w:-]+)/g)].map((match) => ({
      line: index + 1,
      script: match[1] ?? '',
    })),
  )
}
