// The repository as data: the files the tidy rules read, either from disk or made up by a test.
import { readdirSync, readFileSync } from 'node:fs'
import { join, posix, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

/** The repository's root folder. Works from the test's source and from its compiled copy. */
export const ROOT = fileURLToPath(new URL('../../../../', import.meta.url)).replace(/\/packages\/broker\/$/, '/')

/** One thing a rule found. `path` is relative to the root, `line` counts from 1 (0: the whole file). */
export interface Finding {
  readonly rule: string
  readonly path: string
  readonly line: number
  readonly message: string
}

/** One import of a file, whatever its form: `import`, `export from`, `import()` or `import('x').Type`. */
export interface Import {
  readonly specifier: string
  /** The imported file's path from the root when the import stays inside its package, else null. */
  readonly target: string | null
  readonly typeOnly: boolean
  readonly line: number
}

/** A text file with its syntax tree made on first use. */
export class RepositoryFile {
  #ast: ts.SourceFile | undefined
  #imports: readonly Import[] | undefined

  constructor(
    readonly path: string,
    readonly text: string,
  ) {}

  get isTypeScript(): boolean {
    return this.path.endsWith('.ts')
  }

  get lines(): readonly string[] {
    return this.text.replace(/\n$/, '').split('\n')
  }

  get ast(): ts.SourceFile {
    this.#ast ??= ts.createSourceFile(this.path, this.text, ts.ScriptTarget.ES2022, true)
    return this.#ast
  }

  get imports(): readonly Import[] {
    this.#imports ??= findImports(this)
    return this.#imports
  }

  lineOf(node: ts.Node): number {
    return this.ast.getLineAndCharacterOfPosition(node.getStart(this.ast)).line + 1
  }
}

/** Files by path from the root, sorted. */
export class Repository {
  readonly files: readonly RepositoryFile[]
  readonly #byPath: ReadonlyMap<string, RepositoryFile>

  constructor(contents: Readonly<Record<string, string>>) {
    this.files = Object.keys(contents)
      .sort()
      .map((path) => new RepositoryFile(path, contents[path] ?? ''))
    this.#byPath = new Map(this.files.map((file) => [file.path, file]))
  }

  get(path: string): RepositoryFile | undefined {
    return this.#byPath.get(path)
  }

  /** Files below `prefix`. */
  below(prefix: string): readonly RepositoryFile[] {
    return this.files.filter((file) => file.path.startsWith(prefix))
  }

  /** A JSON file's value, or null when there is none. */
  json(path: string): unknown {
    const file = this.get(path)
    return file === undefined ? null : JSON.parse(file.text)
  }

  /** Folders that hold a file, directly or further below, from the root, each with a slash at the end. */
  folders(): ReadonlySet<string> {
    const folders = new Set<string>()
    for (const file of this.files) {
      for (let folder = posix.dirname(file.path); folder !== '.'; folder = posix.dirname(folder))
        folders.add(`${folder}/`)
    }
    return folders
  }
}

const SKIPPED_FOLDERS = new Set(['node_modules', 'dist', 'dist-dev', 'build', 'prebuilds', '.git', 'coverage', 'api'])
const READ_EXTENSIONS = /\.(ts|js|mjs|json|md|cc|h|patch)$/

/** Reads the working tree. `docs/api` and everything that is built are left out. */
export function readRepository(root: string = ROOT): Repository {
  const contents: Record<string, string> = {}
  const walk = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) {
        if (!SKIPPED_FOLDERS.has(entry.name)) walk(path)
      } else if (entry.isFile() && READ_EXTENSIONS.test(entry.name)) {
        contents[relative(root, path)] = readFileSync(path, 'utf8')
      }
    }
  }
  walk(root)
  return new Repository(contents)
}

/** `packages/client` for every file of the client, null for a file outside packages and examples. */
export function packageOf(path: string): string | null {
  return /^(packages|examples)\/[^/]+(?=\/)/.exec(path)?.[0] ?? null
}

function findImports(file: RepositoryFile): readonly Import[] {
  const found: Import[] = []
  const add = (node: ts.Node, literal: ts.Node | undefined, typeOnly: boolean): void => {
    if (literal === undefined || !ts.isStringLiteralLike(literal)) return
    found.push({
      specifier: literal.text,
      target: resolveInside(file.path, literal.text),
      typeOnly,
      line: file.lineOf(node),
    })
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node, node.moduleSpecifier, isTypeOnlyImport(node))
    else if (ts.isExportDeclaration(node)) add(node, node.moduleSpecifier, node.isTypeOnly)
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node, node.argument.literal, true)
    else if (ts.isCallExpression(node) && isImportingCall(node)) add(node, node.arguments[0], false)
    ts.forEachChild(node, visit)
  }
  visit(file.ast)
  return found
}

function isTypeOnlyImport(node: ts.ImportDeclaration): boolean {
  const clause = node.importClause
  if (clause === undefined) return false
  if (clause.isTypeOnly) return true
  const bindings = clause.namedBindings
  return (
    clause.name === undefined &&
    bindings !== undefined &&
    ts.isNamedImports(bindings) &&
    bindings.elements.length > 0 &&
    bindings.elements.every((element) => element.isTypeOnly)
  )
}

function isImportingCall(node: ts.CallExpression): boolean {
  const callee = node.expression
  return callee.kind === ts.SyntaxKind.ImportKeyword || (ts.isIdentifier(callee) && callee.text === 'require')
}

function resolveInside(from: string, specifier: string): string | null {
  const home = packageOf(from)
  const path = specifier.startsWith('#src/')
    ? `${home ?? ''}/src/${specifier.slice('#src/'.length)}`
    : specifier.startsWith('.')
      ? posix.join(posix.dirname(from), specifier)
      : null
  return path === null ? null : path.replace(/\.js$/, '.ts')
}
