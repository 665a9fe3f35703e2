// Answers a batch of requests with a policy engine: JSON on stdin, JSON on stdout.
//
// {"policies": {NAME: DOCUMENT}, "requests": [{principal, action, resource, account, context,
//   identity: [NAME], resource_policy: NAME | null, scp: [NAME]}]} -> [{result} | {error}], in the order of the requests.
// Policies go by name, since thousands of requests share a few.

import { readFileSync } from 'node:fs'
import {
  createValidatedPolicy,
  validateIdentityPolicy,
  validateResourcePolicy,
  validateServiceControlPolicy
} from '@cloud-copilot/iam-policy'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const { policies, requests } = JSON.parse(readFileSync(0, 'utf8'))

// Each document is validated once for each way it is used.
const validated = new Map()
function policy(name, validate) {
  const key = `${validate.name} ${name}`
  if (!validated.has(key)) {
    if (!(name in policies)) throw new Error(`no policy is called ${name}`)
    validated.set(key, createValidatedPolicy(policies[name], validate))
  }
  return { name, policy: validated.get(key) }
}

// What Organizations attaches by itself, beside which an SCP takes away.
policies['FullAWSAccess'] = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }]
}

async function judge({ principal, action, resource, account, context, identity, resource_policy, scp }) {
  const answer = await runSimulation(
    {
      request: { principal, action, resource: { resource, accountId: account }, contextVariables: context },
      identityPolicies: identity.map((name) => policy(name, validateIdentityPolicy)),
      serviceControlPolicies: scp.length
        ? [
            {
              orgIdentifier: 'root',
              policies: ['FullAWSAccess', ...scp].map((name) => policy(name, validateServiceControlPolicy))
            }
          ]
        : [],
      resourceControlPolicies: [],
      resourcePolicy: resource_policy ? policy(resource_policy, validateResourcePolicy).policy : undefined
    },
    {}
  )
  return answer.resultType === 'error' ? { error: answer.errors } : { result: answer.overallResult }
}

const answers = []
for (const request of requests) {
  answers.push(await judge(request))
}
process.stdout.write(JSON.stringify(answers))
