// The shape of files: short, named for what they are, introduced by a comment, and no barrels.
import { posix } from 'node:path'
import ts from 'typescript'
import { type Finding, packageOf, type Repository, type RepositoryFile } from '../repository.js'

const MAXIMUM_FILE_LINES = 400
const MAXIMUM_FUNCTION_LINES = 60
/** The native addon holds mechanism only; more than this would be policy. */
const MAXIMUM_NATIVE_LINES = 2_200
const BANNED_WORDS = new Set(['util', 'utils', 'helper', 'helpers', 'common', 'manager', 'impl', 'misc'])

const isSource = (path: string): boolean =>
  /^packages\/[^/]+\/(src|cpp)\//.test(path) || /^examples\/[^/]+\/src\//.test(path)
const isCode = (path: string): boolean => /\.(ts|mjs|cc|h)$/.test(path) && /^(packages|examples|\.ci)\//.test(path)

/** Product source files longer than the limit. */
export function fileLength(repository: Repository): readonly Finding[] {
  const findings = repository.files
    .filter((file) => isSource(file.path) && isCode(file.path) && file.lines.length > MAXIMUM_FILE_LINES)
    .map((file) => at('file length', file, 0, `has ${file.lines.length} lines, the limit is ${MAXIMUM_FILE_LINES}`))
  const native = repository.below('packages/native/cpp/').filter((file) => isCode(file.path))
  const nativeLines = native.reduce((sum, file) => sum + file.lines.length, 0)
  if (nativeLines > MAXIMUM_NATIVE_LINES) {
    const message = `the addon has ${nativeLines} lines, the limit is ${MAXIMUM_NATIVE_LINES}`
    findings.push({ rule: 'file length', path: 'packages/native/cpp/', line: 0, message })
  }
  return findings
}

/** Functions of product source longer than the limit. */
export function functionLength(repository: Repository): readonly Finding[] {
  const findings: Finding[] = []
  for (const file of repository.files) {
    if (!isSource(file.path) || !file.isTypeScript) continue
    const visit = (node: ts.Node): void => {
      if (ts.isFunctionLike(node) && 'body' in node && node.body !== undefined) {
        const lines = file.ast.getLineAndCharacterOfPosition(node.end).line + 2 - file.lineOf(node)
        if (lines > MAXIMUM_FUNCTION_LINES) {
          const name = node.name?.getText(file.ast) ?? 'a function'
          const message = `${name} has ${lines} lines, the limit is ${MAXIMUM_FUNCTION_LINES}`
          findings.push(at('function length', file, file.lineOf(node), message))
        }
      }
      ts.forEachChild(node, visit)
    }
    visit(file.ast)
  }
  return findings
}

/** Code files whose first line (after a shebang) is not a comment. */
export function firstLine(repository: Repository): readonly Finding[] {
  return repository.files
    .filter((file) => isCode(file.path))
    .filter(
      (file) =>
        !/^\/[/*]\S*\s+\S/.test(file.lines[0]?.startsWith('#!') ? (file.lines[1] ?? '') : (file.lines[0] ?? '')),
    )
    .map((file) => at('first line', file, 1, 'the first line must be a comment that says what the file is for'))
}

/** Files and folders named after nothing. */
export function names(repository: Repository): readonly Finding[] {
  const findings: Finding[] = []
  for (const file of repository.files) {
    if (!isCode(file.path)) continue
    for (const segment of file.path.split('/')) {
      const banned = segment
        .replace(/\..*$/, '')
        .split(/[-_]/)
        .find((word) => BANNED_WORDS.has(word.toLowerCase()))
      if (banned !== undefined)
        findings.push(at('names', file, 0, `"${banned}" in ${segment} says nothing; name the thing`))
    }
    if (/[A-Z_]/.test(posix.basename(file.path)) && file.isTypeScript) {
      findings.push(at('names', file, 0, 'file names are lower case with dashes'))
    }
  }
  return findings
}

/** Files inside a package that only hand on other files, `export *`, and imports of the own public face. */
export function barrels(repository: Repository): readonly Finding[] {
  const findings: Finding[] = []
  for (const file of repository.files) {
    if (!/^packages\/[^/]+\/(src|sim)\//.test(file.path) || !file.isTypeScript) continue
    const faces = publicFaces(repository, file.path)
    for (const imported of file.imports) {
      if (imported.target !== null && faces.has(imported.target) && imported.target.endsWith('/index.ts')) {
        findings.push(
          at('barrels', file, imported.line, `import the file itself, not the public face ${imported.specifier}`),
        )
      }
    }
    if (faces.has(file.path)) continue
    const statements = file.ast.statements
    const handsOn = (statement: ts.Statement): boolean =>
      ts.isExportDeclaration(statement) &&
      statement.moduleSpecifier !== undefined &&
      ts.isStringLiteral(statement.moduleSpecifier) &&
      /^[.#]/.test(statement.moduleSpecifier.text)
    if (
      statements.length > 0 &&
      statements.every((statement) => handsOn(statement) || ts.isImportDeclaration(statement)) &&
      statements.some(handsOn)
    ) {
      findings.push(at('barrels', file, 0, 'only hands on other files; let users import those'))
    }
    for (const statement of statements) {
      if (ts.isExportDeclaration(statement) && statement.exportClause === undefined) {
        findings.push(at('barrels', file, file.lineOf(statement), 'export * hides what is exported'))
      }
    }
  }
  return findings
}

/** The source files behind the `exports` of the package a file belongs to. */
function publicFaces(repository: Repository, path: string): ReadonlySet<string> {
  const home = packageOf(path) ?? ''
  const manifest = repository.get(`${home}/package.json`)
  const targets = manifest?.text.matchAll(/"\.\/dist\/([^"]+)\.js"/g) ?? []
  return new Set([...targets].map((match) => `${home}/src/${match[1]}.ts`))
}

function at(rule: string, file: RepositoryFile, line: number, message: string): Finding {
  return { rule, path: file.path, line, message }
}
