// The golden scenarios of Raft.
import { join } from 'node:path'
import { testScenarios } from '../golden/scenario-tests.js'
import { runFile } from './scenario.js'

testScenarios(join(import.meta.dirname, 'scenarios'), 120, runFile)
