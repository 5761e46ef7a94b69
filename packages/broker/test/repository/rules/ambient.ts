// Nothing but the environment's real sides may read the time, draw a random number, set a timer or do I/O by itself.
import ts from 'typescript'
import type { Finding, Repository, RepositoryFile } from '../repository.js'

/** Product code is checked, these sides and entry files of it are not. */
const REAL_SIDES = [
  'packages/broker/src/io/',
  'packages/broker/src/dev/',
  'packages/broker/src/main.ts',
  'packages/broker/src/testing.ts',
  'packages/broker/src/testing/',
  'packages/client/src/links/',
  'packages/client/src/cli/',
]

/** Globals that are a way out by themselves. */
const GLOBALS = new Set([
  'performance',
  'setTimeout',
  'setInterval',
  'setImmediate',
  'queueMicrotask',
  'process',
  'console',
  'crypto',
  'fetch',
  'globalThis',
])

/** Members of globals that are otherwise pure. `Date` is judged by how it is called. */
const MEMBERS = new Set(['Math.random', 'AbortSignal.timeout'])

/** Uses of ambient time, chance, timers and I/O in product code. */
export function ambient(repository: Repository): readonly Finding[] {
  return repository.files
    .filter((file) => file.isTypeScript && /^packages\/[^/]+\/src\//.test(file.path))
    .filter((file) => !REAL_SIDES.some((side) => file.path.startsWith(side)))
    .flatMap((file) => ambientUses(file))
}

function ambientUses(file: RepositoryFile): readonly Finding[] {
  const findings: Finding[] = []
  const declared = declaredNames(file.ast)
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node) && !declared.has(node.text) && isValueUse(node)) {
      const use = ambientUse(node)
      if (use !== null) {
        findings.push({
          rule: 'ambient',
          path: file.path,
          line: file.lineOf(node),
          message: `${use} bypasses the environment interface`,
        })
      }
    }
    ts.forEachChild(node, visit)
  }
  visit(file.ast)
  return findings
}

function ambientUse(node: ts.Identifier): string | null {
  if (GLOBALS.has(node.text)) return node.text
  const parent = node.parent
  if (ts.isPropertyAccessExpression(parent) && parent.expression === node) {
    const member = `${node.text}.${parent.name.text}`
    if (MEMBERS.has(member)) return member
    // Date.UTC is arithmetic; Date.now reads the clock and Date.parse the local time zone.
    if (node.text === 'Date') return parent.name.text === 'UTC' ? null : member
    return null
  }
  if (node.text !== 'Date') return null
  // new Date(milliseconds) is a conversion; without an argument it reads the clock.
  return ts.isNewExpression(parent) && (parent.arguments?.length ?? 0) > 0 ? null : 'Date'
}

/** Whether the identifier stands for a value of its own: not a member's name, a key, a label or part of a type. */
function isValueUse(node: ts.Identifier): boolean {
  const parent = node.parent
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node
  if (ts.isTypeNode(parent) || ts.isQualifiedName(parent)) return false
  if (ts.isPropertyAssignment(parent)) return parent.initializer === node
  return (
    !(
      ts.isTypeElement(parent) ||
      ts.isClassElement(parent) ||
      ts.isEnumMember(parent) ||
      ts.isImportSpecifier(parent) ||
      ts.isExportSpecifier(parent) ||
      ts.isLabeledStatement(parent)
    ) ||
    (ts.isPropertyDeclaration(parent) && parent.initializer === node)
  )
}

/** Names the file declares anywhere: a parameter named `performance` is not the global. */
function declaredNames(ast: ts.SourceFile): ReadonlySet<string> {
  const names = new Set<string>()
  const visit = (node: ts.Node): void => {
    const declares =
      ts.isVariableDeclaration(node) ||
      ts.isParameter(node) ||
      ts.isBindingElement(node) ||
      ts.isFunctionDeclaration(node) ||
      ts.isImportSpecifier(node) ||
      ts.isImportClause(node)
    if (declares && node.name !== undefined && ts.isIdentifier(node.name)) names.add(node.name.text)
    ts.forEachChild(node, visit)
  }
  visit(ast)
  return names
}
