// Builds everything, runs every test, and ends with the line `N passed, N failed`.
// Further arguments go to vitest, so that `npm test -- packages/protocol` runs a part.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { node, printJson, takeFlag, tool } from './process.mjs'

const args = process.argv.slice(2)
const json = takeFlag(args, '--json')
const skipBuild = takeFlag(args, '--no-build')

/** What vitest's report says, in numbers: a file that failed to load and a stray rejection count as failures. */
function countResults(report, exitCode) {
  const brokenFiles = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  )
  const failed = report.numFailedTests + brokenFiles.length
  return {
    passed: report.numPassedTests,
    failed: failed === 0 && exitCode !== 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
    files: report.testResults.length,
  }
}

async function runTests() {
  if (!skipBuild) {
    const build = await node('.ci/build.mjs')
    if (build.code !== 0) return { passed: 0, failed: 1, skipped: 0, files: 0, reason: 'the build failed' }
  }
  const scratch = mkdtempSync(join(tmpdir(), 'millrace-test-'))
  try {
    const reportPath = join(scratch, 'report.json')
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${reportPath}`]
    const { code } = await tool('vitest', ['run', ...reporters, ...args])
    return countResults(JSON.parse(readFileSync(reportPath, 'utf8')), code)
  } catch (error) {
    return { passed: 0, failed: 1, skipped: 0, files: 0, reason: `vitest left no report: ${error.message}` }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

const startedMs = performance.now()
const result = await runTests()
if (result.reason !== undefined) console.log(result.reason)
if (result.skipped > 0) console.log(`${result.skipped} skipped`)
if (result.passed === 0) console.log('no test passed')
console.log(`${result.passed} passed, ${result.failed} failed`)
if (json) printJson({ name: 'test', ...result, seconds: (performance.now() - startedMs) / 1000 })
process.exitCode = result.failed > 0 || result.passed === 0 ? 1 : 0
