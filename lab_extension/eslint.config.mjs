import hooks from 'eslint-plugin-react-hooks';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import tseslint from 'typescript-eslint';

const here = dirname(fileURLToPath(import.meta.url));

export default tseslint.config(
  { ignores: ['lib/', 'build/', 'node_modules/', 'themisto_lab/', 'style/', 'src/api/generated.ts', '*.mjs'] },
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  hooks.configs.flat.recommended,
  {
    languageOptions: {
      parserOptions: { project: ['./tsconfig.json', './ui-tests/tsconfig.json'], tsconfigRootDir: here }
    },
    rules: {
      // `onClick={() => run(f)}` reads better than a block
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/explicit-function-return-type': ['error', { allowExpressions: true }],
      // Lumino's tokens are a type and a value of one name; an empty string is "nothing" in the API's texts
      '@typescript-eslint/no-redeclare': 'off',
      '@typescript-eslint/prefer-nullish-coalescing': ['error', { ignorePrimitives: { string: true } }],
      'no-restricted-syntax': [
        'error',
        {
          selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']",
          message: "Names come from people: text only, never markup."
        },
        {
          selector: "AssignmentExpression[left.property.name=/^(innerHTML|outerHTML)$/]",
          message: "Names come from people: text only, never markup."
        }
      ],
      'no-console': ['error', { allow: ['warn'] }],
      eqeqeq: 'error'
    }
  },
  {
    // node:test's `test` returns a promise that the runner itself awaits
    files: ['ui-tests/**'],
    rules: { '@typescript-eslint/no-floating-promises': 'off' }
  }
);
