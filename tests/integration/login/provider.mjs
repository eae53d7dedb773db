// A real OpenID provider: panva's oidc-provider, with one client and the people that PEOPLE names.
// Who logs in counts as signed on AGE_S ago, but for who is asked to log in again (`prompt`).
// It writes its issuer on one line once it listens, and ends with its standard input.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const people = JSON.parse(process.env.PEOPLE);
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'salus',
        redirect_uris: ['http://127.0.0.1/callback'],
        application_type: 'native',
        token_endpoint_auth_method: 'none',
        subject_type: 'pairwise',
        require_auth_time: true,
      },
    ],
    claims: { openid: ['sub', 'salus_did'] },
    conformIdTokenClaims: false,
    features: { devInteractions: { enabled: true } },
    subjectTypes: ['pairwise'],
    pairwiseIdentifier: (_, account) => createHash('sha256').update(account).digest('hex').slice(0, 32),
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, salus_did: people[id] }) }),
  });
  const logIn = provider.Session.prototype.loginAccount;
  provider.Session.prototype.loginAccount = function (details) {
    const isAskedAgain = Provider.ctx.oidc.entities.Interaction.params.prompt === 'login';
    const age = isAskedAgain ? 0 : Number(process.env.AGE_S);
    return logIn.call(this, { ...details, loginTs: Math.floor(Date.now() / 1000) - age });
  };
  server.on('request', provider.callback());
  console.log(issuer);
});
process.stdin.on('end', () => process.exit(0)).resume();
