// What a failed step of `npm run ci` has to say in a few lines, for those who see only the end of its output.
import { stripVTControlCharacters } from 'node:util'

const TAIL_LINES = 25
const MOST_LINES = 80
const MOST_LINES_OF_A_TEST = 14
/** Lines of vitest: a test that failed, and the place where it did, behind the reason. */
const FAILED = /^\s*FAIL\s/
const PLACE = /^\s*❯ \S+:\d+/

/** @param {string} text what the step printed. @returns {string[]} what is said of its failed tests, else its last lines. */
export function digestOf(text) {
  const lines = stripVTControlCharacters(text)
    .split('\n')
    .filter((line) => line.trim() !== '')
  const failures = []
  let taken = MOST_LINES_OF_A_TEST
  for (const line of lines) {
    if (FAILED.test(line)) taken = 0
    if (taken++ < MOST_LINES_OF_A_TEST) failures.push(line)
    if (PLACE.test(line)) taken = MOST_LINES_OF_A_TEST
  }
  if (failures.length === 0) return lines.slice(-TAIL_LINES)
  if (failures.length <= MOST_LINES) return failures
  return [...failures.slice(0, MOST_LINES), `(${failures.length - MOST_LINES} more lines)`]
}
