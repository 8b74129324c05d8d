"""Masks secrets of a known form. The rules are data, one line each, written after the vendor's description."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from trackkit.redaction.randomness import is_jumbled

MASK = "***"

# Columns, two spaces apart: the vendor; what a text with such a secret contains, several with commas; the pattern;
# the source of the format, without `https://`.
# - A secret begins with its keyword, after no letter or digit. After `*` the keyword may be anywhere in it.
# - After `?` the pattern is wide: what it finds is a secret only if it looks random.
# - Time stays linear: only the end of a pattern, or of an alternative, repeats without a bound.
# `github:` is docs.github.com/en/code-security/reference/secret-security/supported-secret-scanning-patterns,
# `gitleaks:` is github.com/gitleaks/gitleaks/tree/master/cmd/generate/config/rules: scanners that list formats that the
# vendor's own pages only show.
TABLE = r"""
AWS  AKIA,ASIA,ABIA,ACCA,A3T  A[3KSBC][TIC][0-9A-Z]{17}  docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
AWS Bedrock  ABSK  ABSK[\w+/]{40,}={0,2}  docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
AWS Bedrock session  bedrock-api-key-  bedrock-api-key-[\w+/]{20,}={0,2}  docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
AWS MWS  amzn.mws.  amzn\.mws\.[0-9a-f-]{36}  github:
Google API  AIza  AIza[\w-]{35}  cloud.google.com/docs/authentication/api-keys
Google OAuth client  GOCSPX-  GOCSPX-[\w-]{20,}  developers.google.com/identity/protocols/oauth2
Google OAuth access  ya29.  ya29\.[\w.-]{20,}  developers.google.com/identity/protocols/oauth2
Google OAuth refresh  1//0  1//0[\w-]{30,}  developers.google.com/identity/protocols/oauth2
Google Cloud HMAC  GOOG  GOOG[0-9A-Z]{20,}  cloud.google.com/storage/docs/authentication/hmackeys
Azure Entra client  *Q~  [\w~.]{3}\dQ~[\w~.-]{31,34}  learn.microsoft.com/purview/sit-defn-client-secret-api-key
Azure Storage, Batch  *AStb,*ACDb,*ABa  [A-Za-z0-9+/]{66,76}(?:\+AStb|ACDb|\+ABa)[A-Za-z0-9+/]{5,6}=={0,1}  learn.microsoft.com/purview/sit-defn-azure-storage-account-key
Azure AI  *JQQJ9  [A-Za-z0-9]{52}JQQJ9[A-Za-z0-9]{27}  learn.microsoft.com/purview/sit-defn-azure-cognitive-service-key
Azure DevOps  *AZDO  [A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}  learn.microsoft.com/azure/devops/organizations/accounts/use-personal-access-tokens-to-authenticate
Alibaba Cloud  LTAI  LTAI[A-Za-z0-9]{12,26}  www.alibabacloud.com/help/ram/user-guide/create-an-accesskey-pair
Tencent Cloud  AKID  ?AKID[A-Za-z0-9]{32}  www.tencentcloud.com/document/product/598/34228
Volcengine  AKLT  ?AKLT[A-Za-z0-9+/_-]{40,}={0,2}  www.volcengine.com/docs/6291/65568
Yandex Cloud  AQVN,t1.,y0_,YCA  AQVN[\w-]{35,}|t1\.[\w-]{20,200}={0,2}\.[\w-]{86}={0,2}|y0_[\w-]{40,}|YCA[\w-]{37}  yandex.cloud/en/docs/iam/concepts/authorization
DigitalOcean  dop_v1_,doo_v1_,dor_v1_  do[opr]_v1_[0-9a-f]{40,}  docs.digitalocean.com/reference/api/create-personal-access-token
DigitalOcean Spaces  DO00  DO00[0-9A-Z]{16}(?!\w)  docs.digitalocean.com/products/spaces/how-to/manage-access
Scaleway  SCW  SCW[0-9A-Z]{17}(?!\w)  www.scaleway.com/en/docs/iam/how-to/create-api-keys
Heroku  HRKU-  HRKU-[\w-]{36,}  devcenter.heroku.com/articles/authentication
Fly.io  fo1_,fm1,fm2_  fo1_[\w-]{40,}|fm[12][ar]?_[\w+/]{60,}={0,3}  fly.io/docs/security/tokens
Netlify  nfp_,nfc_,nfo_,nfu_  nf[pcou]_[A-Za-z0-9]{30,}  docs.netlify.com/api/get-started
Vercel  vercel_blob_rw_,vcp_,vci_,vck_  (?:vercel_blob_rw|vc[pik])_\w{20,}  vercel.com/docs/rest-api
Render  rnd_  rnd_[A-Za-z0-9]{28,}  render.com/docs/api
Supabase  sbp_,sb_secret_  sbp_[0-9a-f]{40,}|sb_secret_[\w-]{20,}  supabase.com/docs/guides/api/api-keys
PlanetScale  pscale_tkn_,pscale_oauth_,pscale_pw_  pscale_[a-z]{2,5}_[\w=.-]{30,}  planetscale.com/docs/concepts/service-tokens
Neon  napi_  napi_[a-z0-9]{40,}  neon.com/docs/manage/api-keys
Aiven  AVNS_  AVNS_[\w-]{15,}  aiven.io/docs/platform/concepts/authentication-tokens
Cloudflare Origin CA  v1.0-  v1\.0-[0-9a-f]{24}-[0-9a-f]{100,}  developers.cloudflare.com/fundamentals/api/get-started/ca-keys
Databricks  dapi,dose,dkea  d(?:api|ose|kea)[0-9a-f]{32}(?:-\d)?  docs.databricks.com/dev-tools/auth/pat
HashiCorp Vault  hvs.,hvb.,hvr.  hv[sbr]\.[\w-]{20,}  developer.hashicorp.com/vault/docs/concepts/tokens
HashiCorp Vault before 1.10  s.,b.,r.  ?[sbr]\.[A-Za-z0-9]{24}(?![\w.])  developer.hashicorp.com/vault/docs/concepts/tokens
HashiCorp Terraform  *.atlasv1.  [A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,}  developer.hashicorp.com/terraform/cloud-docs/users-teams-organizations/api-tokens
Doppler  dp.pt.,dp.st.,dp.ct.,dp.sa.,dp.scim.,dp.audit.  dp\.[a-z]{2,5}\.[\w.-]{36,}  docs.doppler.com/reference/auth-token-formats
1Password  ops_eyJ,A3-  ops_eyJ[\w+/-]{60,}={0,3}|A3-[0-9A-Z]{6}(?:-[0-9A-Z]{5,11}){4,5}  developer.1password.com/docs/service-accounts/security
age  AGE-SECRET-KEY-,AGE-PLUGIN-  AGE-(?:SECRET-KEY|PLUGIN-[A-Z0-9]{1,40})-1[0-9A-Z]{20,}  github.com/C2SP/C2SP/blob/main/age.md
Pulumi  pul-  pul-[0-9a-f]{40}  www.pulumi.com/docs/pulumi-cloud/access-management/access-tokens
OpenShift  sha256~  sha256~[\w-]{43}  docs.openshift.com/container-platform/latest/authentication/managing-oauth-access-tokens.html
Tailscale  tskey-  tskey-[a-z]{3,8}-[\w-]{20,}  tailscale.com/kb/1277/key-prefixes
Infracost  ico-  ico-[A-Za-z0-9]{32}  gitleaks:infracost.go
Hugging Face  hf_,api_org_,hf_oauth_  (?:hf|api_org)_[A-Za-z0-9]{30,}|hf_oauth_[\w.-]{20,}  huggingface.co/docs/hub/security-tokens
OpenAI  sk-proj-,sk-svcacct-,sk-admin-,sk-None-  sk-(?:proj|svcacct|admin|None)-[\w-]{20,}  platform.openai.com/docs/api-reference/authentication
OpenAI, DeepSeek, Stability, DashScope  sk-  ?sk-[\w-]{20,}  platform.openai.com/docs/api-reference/authentication
OpenAI session  sess-  ?sess-[A-Za-z0-9]{40}  github:
Anthropic  sk-ant-  sk-ant-[\w-]{20,}  docs.anthropic.com/en/api/admin-api/apikeys/get-api-key
OpenRouter  sk-or-  sk-or-[\w-]{20,}  openrouter.ai/docs/api-reference/authentication
Langfuse  sk-lf-  sk-lf-[\w-]{20,}  langfuse.com/docs/observability/sdk/overview
Groq  gsk_  gsk_[A-Za-z0-9]{20,}  console.groq.com/docs/quickstart
Replicate  r8_  r8_[A-Za-z0-9]{30,}  replicate.com/docs/topics/security/api-tokens
NVIDIA  nvapi-  nvapi-[\w-]{40,}  docs.nvidia.com/ngc/latest/ngc-user-guide.html
xAI  xai-  xai-[A-Za-z0-9]{40,}  docs.x.ai/docs/tutorial
Fireworks  fw_,fw-  ?fw[_-][A-Za-z0-9]{20,}  docs.fireworks.ai/api-reference/introduction
Perplexity  pplx-  pplx-[A-Za-z0-9]{40,}  docs.perplexity.ai/getting-started/quickstart
Together  tgp_v1_  tgp_v1_[\w-]{30,}  docs.together.ai/docs/api-keys-authentication
Cerebras  csk-  csk-[a-z0-9]{40,}  inference-docs.cerebras.ai/quickstart
Anyscale  esecret_,aph0_  (?:esecret|aph0)_[A-Za-z0-9]{20,}  docs.anyscale.com/reference/cli
Modal  ak-,as-  ?a[ks]-[A-Za-z0-9]{22}(?![\w-])  modal.com/docs/reference/modal.config
RunPod  rpa_  rpa_[A-Za-z0-9]{36,}  docs.runpod.io/get-started/api-keys
Lambda  secret_  secret_[\w-]{1,60}\.[A-Za-z0-9]{24,}  docs.lambda.ai/public-cloud/cloud-api
W&B  wandb_v1_  wandb_v1_\w{20,}  docs.wandb.ai/platform/hosting/env-vars
LangSmith  lsv2_pt_,lsv2_sk_,ls__  lsv2_[ps][tk]_[0-9a-f]{32}_[0-9a-f]{10}|ls__[0-9a-f]{32}  docs.smith.langchain.com/administration/how_to_guides/organization_management/create_account_api_key
LlamaCloud  llx-  llx-[A-Za-z0-9]{40,}  docs.cloud.llamaindex.ai/api_key
Pinecone  pcsk_  pcsk_\w{40,}  docs.pinecone.io/guides/projects/manage-api-keys
Jina  jina_  ?jina_[\w-]{40,}  jina.ai/api-dashboard
Voyage  pa-  ?pa-[\w-]{40,}  docs.voyageai.com/docs/api-key-and-installation
ElevenLabs  sk_  sk_[0-9a-f]{40,}  elevenlabs.io/docs/api-reference/authentication
Tavily  tvly-  ?tvly-[\w-]{20,}  docs.tavily.com/documentation/api-reference/introduction
Firecrawl  fc-  fc-[0-9a-f]{32}  docs.firecrawl.dev/api-reference/introduction
E2B  e2b_  e2b_[0-9a-f]{40}  e2b.dev/docs/api-key
Neptune  eyJhcGlf  eyJhcGlf[\w+/-]{40,}={0,2}  docs.neptune.ai/setup/setting_api_token
Kaggle  KGAT_  KGAT_[0-9A-Za-z]{20,}  www.kaggle.com/docs/api
Prefect  pnu_,pnb_  pn[ub]_[A-Za-z0-9]{36}  docs.prefect.io/v3/how-to-guides/cloud/manage-users/api-keys
GitHub  ghp_,gho_,ghu_,ghs_,ghr_  gh[pousr]_\w{20,}  github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats
GitHub fine-grained  github_pat_  github_pat_\w{20,}  github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats
GitLab  glpat-,gldt-,glft-,glsoat-,glrt-,glrtr-,glcbt-,glimt-,glptt-,glagent-,gloas-,glffct-,glwt-  gl[a-z]{2,5}-[\w.-]{20,}  docs.gitlab.com/security/tokens
GitLab runner registration  GR1348941  GR1348941[\w-]{20,}  docs.gitlab.com/security/tokens
Bitbucket  ATBB,BBDC-  ATBB[A-Za-z0-9]{24,}|BBDC-[\w+/]{40,}  support.atlassian.com/bitbucket-cloud/docs/app-passwords
Atlassian  ATATT3,ATCTT3,ATOAT  ATATT3[\w=-]{40,}|ATCTT3[\w=-]{40,}|ATOAT[\w=-]{40,}  support.atlassian.com/atlassian-account/docs/manage-api-tokens-for-your-atlassian-account
Linear  lin_api_,lin_oauth_  lin_(?:api|oauth)_[A-Za-z0-9]{32,}  linear.app/developers/graphql
Sourcegraph  sgp_  sgp_(?:[0-9a-fA-F]{16}_|local_)?[0-9a-fA-F]{40}  sourcegraph.com/docs/cli/how-tos/creating_an_access_token
CircleCI  CCIPAT_,CCIPRJ_  CCIP(?:AT|RJ)_\w{40,}  circleci.com/docs/managing-api-tokens
Buildkite  bkua_,bkpt_  bk(?:ua|pt)_[0-9a-f]{40}  buildkite.com/docs/apis/managing-api-tokens
SonarQube  squ_,sqp_,sqa_  sq[upa]_[0-9a-f]{40}  docs.sonarsource.com/sonarqube-server/user-guide/managing-tokens
Postman  PMAK-,PMAT-  PMAK-[0-9a-f]{24}-[0-9a-f]{34}|PMAT-[0-9A-Z]{26}  learning.postman.com/docs/developer/postman-api/authentication
Grafana  glc_,glsa_,eyJrIjoi  glc_[\w+/]{32,}={0,3}|glsa_[A-Za-z0-9]{32}_[0-9a-fA-F]{8}|eyJrIjoi[\w+/-]{40,}={0,3}  grafana.com/docs/grafana/latest/administration/service-accounts
Sentry  sntrys_,sntryu_,sntrya_,sntryi_  sntry[suai]_[\w+/=.-]{40,}  docs.sentry.io/account/auth-tokens
New Relic  NRAK-,NRII-,NRJS-,NRIQ-  NR(?:AK|II|JS|IQ)-[\w-]{19,}  docs.newrelic.com/docs/apis/intro-apis/new-relic-api-keys
Dynatrace  dt0  dt0[a-z]\d\d\.[0-9A-Z]{8,24}\.[0-9A-Z]{64}  docs.dynatrace.com/docs/dynatrace-api/basics/dynatrace-api-authentication
Honeycomb  hcaik_,hcbik_,hcmik_,hcalk_,hccik_,hclik_  hc[abmcl][il]k_[a-z0-9]{40,}  docs.honeycomb.io/get-started/configure/environments/manage-api-keys
LaunchDarkly  sdk-,api-,mob-  (?:sdk|api|mob)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}  launchdarkly.com/docs/home/account/api
Harness  pat.,sat.  [ps]at\.[\w-]{22}\.[0-9A-Za-z]{24}\.[0-9A-Za-z]{20}  developer.harness.io/docs/platform/automation/api/add-and-manage-api-keys
Octopus Deploy  API-  API-[0-9A-Z]{25,}  octopus.com/docs/octopus-rest-api/how-to-create-an-api-key
JFrog  AKC,cmVmd  AKC[A-Za-z0-9]{13,}|cmVmd[A-Za-z0-9]{50,}  docs.jfrog.com/administration/docs/access-tokens
JFrog password  AP  ?AP[0-9A-F][A-Za-z0-9]{12,}(?![\w-])  github.com/Yelp/detect-secrets/blob/master/detect_secrets/plugins/artifactory.py
Docker  dckr_pat_,dckr_oat_  dckr_[po]at_[\w-]{20,}  docs.docker.com/security/access-tokens
Airtable  pat  pat[A-Za-z0-9]{14}\.[0-9a-f]{64}  airtable.com/developers/web/api/authentication
Notion  ntn_,secret_  ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43}  developers.notion.com/reference/authentication
Figma  figd_,figo_  fig[do]_[\w-]{36,}  www.figma.com/developers/api
ClickUp  pk_  pk_\d{4,12}_[0-9A-Z]{32}  developer.clickup.com/docs/authentication
Contentful  CFPAT-  CFPAT-[\w-]{40,}  www.contentful.com/developers/docs/references/content-management-api
Typeform  tfp_  tfp_[\w.-]{40,}  www.typeform.com/developers/get-started/personal-access-token
ReadMe  rdme_  rdme_[a-z0-9]{60,}  docs.readme.com/main/reference/intro-authentication
Dropbox  sl.  ?sl\.(?:u\.)?[\w=-]{60,}  www.dropbox.com/developers/documentation/http/documentation
Asana  1/,2/  [12]/\d{10,20}(?:/\d{10,20})?:[0-9a-f]{32}  developers.asana.com/docs/personal-access-token
Slack  xox  xox[a-z](?:\.xox[a-z])?-[\w%.-]{10,}  api.slack.com/authentication/token-types
Slack app  xapp-,xwfp-  x(?:app|wfp)-[\w-]{12,}  api.slack.com/authentication/token-types
Slack webhook  hooks.slack.com,HOOKS.SLACK.COM  (?i:hooks\.slack\.com)/[A-Za-z]{8,9}/[\w/+-]{20,}  api.slack.com/messaging/webhooks
Discord  *.  [MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,38}  discord.com/developers/docs/reference
Discord webhook  *.com/api/webhooks/,*.com/api/v  discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks/\d{15,20}/[\w-]{20,}  discord.com/developers/docs/resources/webhook
Telegram  *:  ?\d(?<!\d\d)\d{6,9}:[\w-]{35}(?![\w-])  core.telegram.org/bots/api
Microsoft Teams  *webhook.office.com/  webhook\.office\.com/webhookb2/[\w@-]{36,80}/\w{10,20}/[0-9a-f]{32}/[\w-]{36}(?:/[\w-]{1,80})?  learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
Feishu, Lark  *open-apis/bot/  open-apis/bot/(?:v2/)?hook/[\w-]{20,}  open.feishu.cn/document/client-docs/bot-v3/add-custom-bot
Zapier  hooks.zapier.com  hooks\.zapier\.com/hooks/catch/\d{1,12}/\w{6,}  help.zapier.com/hc/en-us/articles/8496288690317
Twilio  AC,SK  (?:AC|SK)[0-9a-z]{32}(?!\w)  www.twilio.com/docs/iam/api-keys
SendGrid  SG.  SG\.[\w-]{16,32}\.[\w-]{16,}  www.twilio.com/docs/sendgrid/ui/account-and-settings/api-keys
Mailgun  key-,pubkey-  (?:pub)?key-[0-9a-f]{32}  documentation.mailgun.com/docs/mailgun/api-reference/mg-auth
Mailchimp  *-us  [0-9a-f][0-9a-z]{31}-us\d{1,2}  mailchimp.com/developer/marketing/guides/quick-start
Mandrill  md-  ?md-[\w-]{22}(?![\w-])  mailchimp.com/developer/transactional/guides/quick-start
Brevo  xkeysib-,xsmtpsib-  x(?:key|smtp)sib-[0-9a-f]{64}-[A-Za-z0-9]{16}  developers.brevo.com/docs/getting-started
Resend  re_  ?re_[A-Za-z0-9]{8}_[A-Za-z0-9]{20,}  resend.com/docs/dashboard/api-keys/introduction
OneSignal  os_v2_  os_v2_[a-z]{3}_[a-z0-9]{60,}  documentation.onesignal.com/docs/keys-and-ids
Meta  EAA  ?EAA[A-Za-z0-9]{60,}  developers.facebook.com/docs/facebook-login/guides/access-tokens
X, Twitter  AAAAAAAAAAAAAAAAAAAA  ?A{20,24}[\w%]{60,}  docs.x.com/resources/fundamentals/authentication/oauth-2-0/bearer-tokens
Adobe  p8e-  p8e-[\w-]{30,}  gitleaks:adobe.go
Stripe  sk_live_,sk_test_,sk_prod_,rk_live_,rk_test_,rk_prod_,sk_org_  [sr]k_(?:live|test|prod|org)_\w{10,}  docs.stripe.com/keys
Stripe webhook  whsec_  whsec_[\w+/]{24,}={0,2}  docs.stripe.com/webhooks/signature
Square  sq0,EAAA  sq0[a-z]{3}-[\w-]{22,}|EAAA[\w-]{60}  developer.squareup.com/docs/build-basics/access-tokens
PayPal Braintree  access_token$  access_token\$[a-z]{4,12}\$[0-9a-z]{16}\$[0-9a-f]{32}  github:
Shopify  shpat_,shpca_,shppa_,shpss_,shptka_,shpua_  shp[a-z]{2,3}_[0-9a-fA-F]{32}  shopify.dev/docs/apps/build/authentication-authorization
Plaid  access-sandbox-,access-development-,access-production-  access-[a-z]{7,11}-[0-9a-f-]{36}  plaid.com/docs/api/tokens
Razorpay  rzp_live_,rzp_test_  rzp_(?:live|test)_[A-Za-z0-9]{14,}  razorpay.com/docs/payments/dashboard/account-settings/api-keys
Flutterwave  FLWSECK,FLWPUBK  FLW(?:SEC|PUB)K(?:_TEST)?-[0-9a-zA-Z-]{12,}  developer.flutterwave.com/docs/authentication
EasyPost  EZAK,EZTK  EZ[AT]K[A-Za-z0-9]{50,}  docs.easypost.com/docs/authentication
Shippo, Duffel, Lob  shippo_,duffel_  (?:shippo|duffel)_(?:live|test)_[\w=-]{40,}  docs.goshippo.com/docs/guides_general/authentication
npm  npm_  npm_[A-Za-z0-9]{36}  docs.npmjs.com/about-access-tokens
PyPI  pypi-  pypi-[\w-]{50,}  pypi.org/help/#apitoken
RubyGems  rubygems_  rubygems_[0-9a-f]{48}  guides.rubygems.org/api-key-scopes
NuGet  oy2  oy2[a-z0-9]{43}  learn.microsoft.com/nuget/nuget-org/publish-a-package
crates.io  cio  cio[A-Za-z0-9]{32}  crates.io/settings/tokens
Clojars  CLOJARS_  CLOJARS_[0-9a-f]{50,}  github.com/clojars/clojars-web/wiki/Deploy-Tokens
Anaconda  */t/  (?<=/t/)[a-z]{2}-[0-9a-f]{8}-[0-9a-f-]{20,}  www.anaconda.com/docs/tools/anaconda-org/user-guide/tasks/work-with-accounts
JWT  eyJ,ewog  e(?:yJ|wog)[\w-]{8,1000}\.e[yw][\w-]{8,}(?:\.[\w-]*)?  datatracker.ietf.org/doc/html/rfc7519
Bearer  Bearer,bearer,BEARER  (?i:bearer)\s{1,4}[\w.~+/\-]{8,}=*  datatracker.ietf.org/doc/html/rfc6750
Basic  Basic  ?Basic\s{1,4}[A-Za-z0-9+/]{12,}={0,2}  datatracker.ietf.org/doc/html/rfc7617
Private key  *PRIVATE KEY  -{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}(?s:.*?)(?:-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|\Z)  datatracker.ietf.org/doc/html/rfc7468
"""


class Rule(NamedTuple):
    """A form of a secret.

    Attributes:
        vendor: whose secret it is.
        keywords: texts without any of them have no such secret.
        anywhere: whether the keyword may stand anywhere in the secret; otherwise the secret begins with it.
        pattern: of the whole secret.
        wide: whether what the pattern finds is a secret only if it looks random.
        source: where the format is described.
    """

    vendor: str
    keywords: tuple[str, ...]
    anywhere: bool
    pattern: str
    wide: bool
    source: str


def _parse(line: str) -> Rule:
    vendor, keywords, pattern, source = line.split("  ")
    anywhere = keywords.startswith("*")
    found = tuple(each.lstrip("*") for each in keywords.split(","))
    return Rule(vendor, found, anywhere, pattern.removeprefix("?"), pattern.startswith("?"), source)


RULES = tuple(_parse(line) for line in TABLE.strip().splitlines())
_ANYWHERE = tuple((keyword, rule) for rule in RULES if rule.anywhere for keyword in rule.keywords)
# A dot or a colon is in every text: the rules with such a keyword wait for a run of characters as in their secrets.
_IN_WORDS = tuple((keyword, rule) for keyword, rule in _ANYWHERE if len(keyword) > 1)
_RUN = re.compile(r"[A-Za-z0-9_\-]{24}")


def mask_forms(text: str) -> str:
    """Returns `text` with the secrets masked that a rule describes."""
    anywhere = _ANYWHERE if _RUN.search(text) else _IN_WORDS
    for rule in [rule for keyword, rule in anywhere if keyword in text]:
        text = _compiled(rule.pattern).sub(lambda found, rule=rule: _masked(rule, found[0]), text)  # type: ignore[misc]
    kept: list[str] = []
    done = position = 0
    search = _beginnings(escaped="\\" in text or "%" in text).search
    while (begin := search(text, position)) is not None:
        # Keywords overlap: `napi_` and `api_` in `\\napi_`, with the end of a line before.
        position = begin.start() + 1
        for rule in _rules_of(begin[0]):
            if (found := _compiled(rule.pattern).match(text, begin.start())) is None:
                continue
            # What a rule has judged is judged once.
            position = max(position, found.end())
            if _masked(rule, found[0]) == MASK:
                kept += [text[done : begin.start()], MASK]
                done = position
                break
    return "".join([*kept, text[done:]]) if done else text


def _masked(rule: Rule, found: str) -> str:
    return found if rule.wide and not is_jumbled(found.partition(" ")[2] or found) else MASK


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compiles a pattern when a text first has its keyword: the import stays fast."""
    return re.compile(pattern, re.ASCII)


@cache
def _beginnings(escaped: bool) -> re.Pattern[str]:
    """Returns the pattern of every keyword that begins a secret. No letter is before it, but in `\\n` and `%3D`."""
    keywords = {keyword for rule in RULES if not rule.anywhere for keyword in rule.keywords}
    before = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=%[0-9A-Fa-f][0-9A-Fa-f]))" if escaped else "(?<![A-Za-z0-9])"
    return re.compile(before + _tree(sorted(keywords)))


def _tree(words: list[str]) -> str:
    """Returns the pattern of `words`, the longest first, that compares each character once."""
    groups: dict[str, list[str]] = {}
    for word in words:
        if word:
            groups.setdefault(word[0], []).append(word[1:])
    if not groups:
        return ""
    inner = "|".join(re.escape(first) + _tree(rest) for first, rest in groups.items())
    return f"(?:{inner}{'|' if '' in words else ''})"


@cache
def _rules_of(beginning: str) -> tuple[Rule, ...]:
    """Returns the rules for a text that begins so, the longest keyword first: `sk-ant-` before `sk-`."""
    fitting = [
        (-len(keyword), number, rule)
        for number, rule in enumerate(RULES)
        for keyword in rule.keywords
        if not rule.anywhere and beginning.startswith(keyword)
    ]
    return tuple(rule for _, _, rule in sorted(fitting, key=lambda each: each[:2]))
