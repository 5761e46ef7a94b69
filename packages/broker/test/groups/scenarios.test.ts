// The golden scenarios of consumer groups. Every command is judged by the invariants besides.
import { join } from 'node:path'
import { testScenarios } from '../golden/scenario-tests.js'
import { runFile } from './scenario.js'

testScenarios(join(import.meta.dirname, 'scenarios'), 20, runFile)
