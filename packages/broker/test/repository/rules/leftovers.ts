// What people leave behind: notes to themselves, tests that do not run, prints, and ways around the type checker.
import ts from 'typescript'
import type { Finding, Repository, RepositoryFile } from '../repository.js'

const NOTES = new RegExp(`\\b(${['TO', 'FIX', 'XX'].map((start, at) => start + ['DO', 'ME', 'X'][at]).join('|')})\\b`)
const TESTS = new Set(['it', 'test', 'describe', 'suite', 'bench'])
const NOT_RUN = new Set(['only', 'skip', 'todo'])

/** Programs talk to a terminal; libraries do not. */
const MAY_PRINT = [
  /^packages\/[^/]+\/(bench|scripts|bin)\//,
  /^packages\/client\/src\/cli\//,
  /^packages\/broker\/src\/main\.ts$/,
  /^packages\/broker\/sim\/(.+\/)?[\w-]*main\.ts$/,
  /^examples\//,
  /^\.ci\//,
]

/** Leftovers in code and prose. */
export function leftovers(repository: Repository): readonly Finding[] {
  const findings: Finding[] = []
  for (const file of repository.files) {
    if (!/\.(ts|js|mjs|md|cc|h)$/.test(file.path)) continue
    file.lines.forEach((line, index) => {
      const note = NOTES.exec(line)
      if (note !== null) findings.push(finding(file, index + 1, `${note[1]} belongs in an issue`))
      if (/@ts-(ignore|nocheck)/.test(line) && file.isTypeScript && !line.includes('/@ts-')) {
        findings.push(finding(file, index + 1, 'silences the type checker'))
      }
    })
    if (file.isTypeScript) findings.push(...inSyntax(file))
  }
  return findings
}

function inSyntax(file: RepositoryFile): readonly Finding[] {
  const findings: Finding[] = []
  const visit = (node: ts.Node): void => {
    const complaint = complain(file, node)
    if (complaint !== null) findings.push(finding(file, file.lineOf(node), complaint))
    ts.forEachChild(node, visit)
  }
  visit(file.ast)
  return findings
}

function complain(file: RepositoryFile, node: ts.Node): string | null {
  if (ts.isPropertyAccessExpression(node)) {
    const { text } = node.name
    if (TESTS.has(firstName(node)) && NOT_RUN.has(text)) return `.${text} leaves tests out`
    if (firstName(node) === 'console' && !MAY_PRINT.some((place) => place.test(file.path)))
      return `console.${text} in a library`
  }
  if (ts.isDebuggerStatement(node)) return 'debugger'
  if (ts.isAsExpression(node) && ts.isAsExpression(node.expression)) {
    const { type, expression } = node.expression
    // A test may hand over a plain wrong value, to see what a caller without types would meet.
    const onPurpose = /^packages\/[^/]+\/test\//.test(file.path) && isPlainValue(expression)
    if (type.kind === ts.SyntaxKind.UnknownKeyword && !onPurpose) return '`as unknown as` says anything about anything'
  }
  if (ts.isCatchClause(node) && node.block.statements.length === 0) {
    // An empty block is fine when it says why nothing has to be done.
    if (!/\/[/*]/.test(node.block.getText(file.ast))) return 'an error is swallowed without a word'
  }
  return null
}

function isPlainValue(node: ts.Expression): boolean {
  return (
    ts.isStringLiteral(node) ||
    ts.isNumericLiteral(node) ||
    node.kind === ts.SyntaxKind.NullKeyword ||
    (ts.isIdentifier(node) && node.text === 'undefined')
  )
}

/** `it` of `it.each.only`, empty when the expression does not begin with a name. */
function firstName(node: ts.PropertyAccessExpression): string {
  let expression: ts.Expression = node.expression
  while (ts.isPropertyAccessExpression(expression) || ts.isCallExpression(expression))
    expression = expression.expression
  return ts.isIdentifier(expression) ? expression.text : ''
}

function finding(file: RepositoryFile, line: number, message: string): Finding {
  return { rule: 'leftovers', path: file.path, line, message }
}
