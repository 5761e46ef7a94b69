// Tests run over the compiled packages: only the test files themselves are transformed, everything in `dist` is
// imported by Node as users import it (a worker's entry cannot be a .ts file on Node 20).
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['packages/*/test/**/*.test.ts', 'examples/*/test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 30_000,
    teardownTimeout: 5_000,
    allowOnly: false,
    passWithNoTests: false,
    server: { deps: { external: [/\/(packages|examples)\/[^/]+\/(dist|dist-dev)\//] } },
  },
})
