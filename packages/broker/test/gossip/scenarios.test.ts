// The golden scenarios of gossip.
import { join } from 'node:path'
import { testScenarios } from '../golden/scenario-tests.js'
import { runFile } from './scenario.js'

testScenarios(join(import.meta.dirname, 'scenarios'), 40, runFile)
