"""Random secrets in the form that each vendor documents, written apart from the rules that find them."""

from __future__ import annotations

import random
import re
import string

_LOWER, _UPPER, _DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
_ALPHABETS = {
    "x": "0123456789abcdef",
    "d": _DIGITS,
    "l": _LOWER + _DIGITS,
    "U": _UPPER + _DIGITS,
    "w": _LOWER + _UPPER + _DIGITS,
    "a": _LOWER + _UPPER,
    "b": _LOWER + _UPPER + _DIGITS + "-_",
    "p": _LOWER + _UPPER + _DIGITS + "+/",
}
_UUID = "{x8}-{x4}-{x4}-{x4}-{x12}"

# A vendor of the rules and forms of its secrets, two spaces apart: `{w36}` is 36 letters and digits.
_FORMS = r"""
AWS  AKIA{U16}  ASIA{U16}  ABIA{U16}  ACCA{U16}  A3T{U17}
AWS Bedrock  ABSK{p110}=
AWS Bedrock session  bedrock-api-key-{p80}
AWS MWS  amzn.mws.{UUID}
Google API  AIza{b35}
Google OAuth client  GOCSPX-{b28}
Google OAuth access  ya29.{b120}  ya29.a0{b40}.{b30}
Google OAuth refresh  1//0{b50}
Google Cloud HMAC  GOOG1E{U55}  GOOG{U20}
Azure Entra client  {w3}8Q~{b34}
Azure Storage, Batch  {p76}+AStb{w5}==  {p76}ACDb{w6}==
Azure AI  {w52}JQQJ99{w26}
Azure DevOps  {w76}AZDO{w4}
Alibaba Cloud  LTAI{w20}  LTAI{w12}
Tencent Cloud  AKID{w32}
Volcengine  AKLT{w44}
Yandex Cloud  AQVN{b36}  t1.{b60}.{b86}  y0_{b55}  YCA{b37}
DigitalOcean  dop_v1_{x64}  doo_v1_{x64}  dor_v1_{x64}
DigitalOcean Spaces  DO00{U16}
Scaleway  SCW{U17}
Heroku  HRKU-AA{b58}  HRKU-{UUID}
Fly.io  fo1_{b43}  fm1r_{p120}  fm2_{p120}=
Netlify  nfp_{w36}
Vercel  vercel_blob_rw_{w16}_{w30}  vcp_{w24}
Render  rnd_{w28}
Supabase  sbp_{x40}  sb_secret_{b31}
PlanetScale  pscale_tkn_{b43}  pscale_oauth_{b43}  pscale_pw_{b43}
Neon  napi_{l64}
Aiven  AVNS_{b19}
Cloudflare Origin CA  v1.0-{x24}-{x146}
Databricks  dapi{x32}  dapi{x32}-2  dose{x32}
HashiCorp Vault  hvs.{b24}  hvs.{b95}  hvb.{b150}  hvr.{b24}
HashiCorp Vault before 1.10  s.{w24}
HashiCorp Terraform  {w14}.atlasv1.{b67}
Doppler  dp.pt.{w43}  dp.st.dev.{w40}
1Password  ops_eyJ{w260}  A3-{U6}-{U11}-{U5}-{U5}-{U5}  A3-{U6}-{U6}-{U5}-{U5}-{U5}-{U5}
age  AGE-SECRET-KEY-1{U58}  AGE-PLUGIN-YUBIKEY-1{U30}
Pulumi  pul-{x40}
OpenShift  sha256~{b43}
Tailscale  tskey-auth-{w17}-{w32}  tskey-api-{w12}CNTRL-{w32}
Infracost  ico-{w32}
Hugging Face  hf_{a34}  api_org_{a34}  hf_oauth_{b80}
OpenAI  sk-proj-{b74}T3BlbkFJ{b74}  sk-svcacct-{b58}T3BlbkFJ{b58}  sk-admin-{b58}T3BlbkFJ{b58}
OpenAI, DeepSeek, Stability, DashScope  sk-{w20}T3BlbkFJ{w20}  sk-{x32}  sk-{w48}
OpenAI session  sess-{w40}
Anthropic  sk-ant-api03-{b93}AA  sk-ant-admin01-{b93}AA  sk-ant-oat01-{b93}AA
OpenRouter  sk-or-v1-{x64}
Langfuse  sk-lf-{UUID}
Groq  gsk_{w52}
Replicate  r8_{w37}
NVIDIA  nvapi-{b64}
xAI  xai-{w80}
Fireworks  fw_{w24}  fw_{w22}
Perplexity  pplx-{w48}
Together  tgp_v1_{b43}
Cerebras  csk-{l48}
Anyscale  esecret_{l24}
Modal  ak-{w22}  as-{w22}
RunPod  rpa_{U40}{l6}
Lambda  secret_laptop_{x32}.{w32}
W&B  wandb_v1_{w77}
LangSmith  lsv2_pt_{x32}_{x10}  lsv2_sk_{x32}_{x10}  ls__{x32}
LlamaCloud  llx-{w48}
Pinecone  pcsk_{w6}_{w63}
Jina  jina_{x32}{b28}
Voyage  pa-{b43}
ElevenLabs  sk_{x48}
Tavily  tvly-dev-{w32}  tvly-{w32}
Firecrawl  fc-{x32}
E2B  e2b_{x40}
Neptune  eyJhcGlfYWRkcmVzcyI6{p120}
Kaggle  KGAT_{x32}
Prefect  pnu_{w36}
GitHub  ghp_{w36}  gho_{w36}  ghu_{w36}  ghs_{w36}  ghr_{w76}
GitHub fine-grained  github_pat_{w22}_{w59}
GitLab  glpat-{b20}  gldt-{b20}  glft-{b20}  glsoat-{b20}  glrt-{b20}  glcbt-64_{b20}  glimt-{b25}  glptt-{x40}  glagent-{b50}  gloas-{b64}  glpat-{b27}.01.{l9}
GitLab runner registration  GR1348941{b20}
Bitbucket  ATBB{w32}  BBDC-{p44}
Atlassian  ATATT3xFfGF0{b170}={U8}  ATCTT3xFfGN0{b170}={U8}
Linear  lin_api_{w40}  lin_oauth_{x64}
Sourcegraph  sgp_{x40}  sgp_{x16}_{x40}  sgp_local_{x40}
CircleCI  CCIPAT_{w22}_{x40}
Buildkite  bkua_{x40}
SonarQube  squ_{x40}  sqp_{x40}
Postman  PMAK-{x24}-{x34}
Grafana  glc_{p120}  glsa_{w32}_{x8}  eyJrIjoi{w80}=
Sentry  sntrys_{w120}_{p43}  sntryu_{x64}
New Relic  NRAK-{U27}  NRII-{b32}  NRJS-{x19}
Dynatrace  dt0c01.{U24}.{U64}
Honeycomb  hcaik_{l58}
LaunchDarkly  sdk-{UUID}  api-{UUID}
Harness  pat.{b22}.{x24}.{w20}
Octopus Deploy  API-{U26}
JFrog  AKCp{w69}  cmVmd{w59}
JFrog password  AP5{w30}
Docker  dckr_pat_{b27}  dckr_oat_{b32}
Airtable  pat{w14}.{x64}
Notion  ntn_{d11}{w35}  secret_{w43}
Figma  figd_{b40}
ClickUp  pk_{d8}_{U32}
Contentful  CFPAT-{b43}
Typeform  tfp_{b44}_{w14}
ReadMe  rdme_{l70}
Dropbox  sl.{b135}  sl.u.{b130}
Asana  1/{d16}:{x32}  2/{d16}/{d16}:{x32}
Slack  xoxb-{d12}-{d12}-{w24}  xoxp-{d12}-{d12}-{d12}-{x32}  xoxe.xoxp-1-{U163}  xoxe-1-{U146}  xoxa-2-{d12}-{d12}-{x32}  xoxs-{d11}-{d11}-{d11}-{x10}
Slack app  xapp-1-A{U10}-{d13}-{x64}
Slack webhook  https://hooks.slack.com/services/T{U8}/B{U10}/{w24}  hooks.slack.com/workflows/T{U8}/A{U10}/{d18}/{w24}
Discord  M{w23}.{b6}.{b27}  N{w25}.{b6}.{b38}
Discord webhook  https://discord.com/api/webhooks/{d19}/{b68}  https://discordapp.com/api/webhooks/{d18}/{b68}
Telegram  {d10}:AA{b33}  {d8}:{b35}
Microsoft Teams  https://contoso.webhook.office.com/webhookb2/{UUID}@{UUID}/IncomingWebhook/{x32}/{UUID}
Feishu, Lark  https://open.feishu.cn/open-apis/bot/v2/hook/{UUID}
Zapier  https://hooks.zapier.com/hooks/catch/{d7}/{l7}/
Twilio  SK{x32}  AC{x32}
SendGrid  SG.{b22}.{b43}
Mailgun  key-{x32}
Mailchimp  {x32}-us14
Mandrill  md-{w22}
Brevo  xkeysib-{x64}-{w16}
Resend  re_{w8}_{w24}
OneSignal  os_v2_app_{l103}
Meta  EAACEdEose0cBA{w150}
X, Twitter  AAAAAAAAAAAAAAAAAAAAAA{w80}
Adobe  p8e-{b32}
Stripe  sk_live_{w24}  rk_live_{w24}  sk_test_{w99}
Stripe webhook  whsec_{w32}
Square  sq0csp-{b43}  sq0atp-{b22}  EAAA{b60}
PayPal Braintree  access_token$production${l16}${x32}
Shopify  shpat_{x32}  shpca_{x32}  shppa_{x32}  shpss_{x32}
Plaid  access-production-{UUID}
Razorpay  rzp_live_{w14}
Flutterwave  FLWSECK-{x32}-X  FLWSECK_TEST-{x32}-X
EasyPost  EZAK{w54}
Shippo, Duffel, Lob  shippo_live_{x40}  duffel_live_{b43}
npm  npm_{w36}
PyPI  pypi-AgEIcHlwaS5vcmc{b120}  pypi-AgENdGVzdC5weXBpLm9yZw{b120}
RubyGems  rubygems_{x48}
NuGet  oy2{l43}
crates.io  cio{w32}
Clojars  CLOJARS_{x60}
Anaconda  https://conda.anaconda.org/t/ab-{UUID}/main
JWT  eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{b43}
Bearer  Bearer {b40}  bearer {x32}
Basic  Basic {w30}==
Private key  -----BEGIN RSA PRIVATE KEY-----\n{p64}\n{p64}\n-----END RSA PRIVATE KEY-----  -----BEGIN PRIVATE KEY-----\n{p64}
Private key  -----BEGIN OPENSSH PRIVATE KEY-----\n{p70}\n-----END OPENSSH PRIVATE KEY-----
Private key  -----BEGIN PGP PRIVATE KEY BLOCK-----\n{p64}\n-----END PGP PRIVATE KEY BLOCK-----
Private key  ---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{p64}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----
"""


def samples(seed: int = 0) -> list[tuple[str, str]]:
    """Returns a vendor of the rules and a secret in its form, for every form."""
    generator = random.Random(seed)
    lines = [line.split("  ") for line in _FORMS.strip().splitlines()]
    return [(vendor, fill(form, generator)) for vendor, *forms in lines for form in forms]


def fill(form: str, generator: random.Random) -> str:
    """Returns a form with random characters in its places."""
    return re.sub(
        r"\{(\w)(\d+)\}",
        lambda found: "".join(generator.choices(_ALPHABETS[found[1]], k=int(found[2]))),
        form.replace("{UUID}", _UUID).replace(r"\n", "\n"),
    )


def secret_end(secret: str) -> str:
    """Returns the end of a secret, which no mask may leave."""
    return [part for part in re.split(r"[/\s]|main$|-----[A-Z ]+-----$|---- [A-Z0-9 ]+----$", secret) if part][-1][-10:]
